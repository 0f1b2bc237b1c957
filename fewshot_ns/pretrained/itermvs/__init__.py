"""IterMVS, a network that matches posed photos and gives depth.

F. Wang, S. Galliani, C. Vogel, M. Pollefeys, "IterMVS: Iterative Probability Estimation for Efficient Multi-View
Stereo", CVPR 2022. Written from its description; the names of the parameters are those of the published weights.
"""
