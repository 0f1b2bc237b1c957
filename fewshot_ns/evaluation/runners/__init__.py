"""Evaluation of all views of one scene, and of many scenes."""
