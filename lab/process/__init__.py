"""Instances that are process trees in namespaces of their own."""
