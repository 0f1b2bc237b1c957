"""The built-in scene and objects, ray-traced: for the demo, tests and benchmarks."""
