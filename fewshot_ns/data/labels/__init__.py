"""Measured values of training pixels."""
