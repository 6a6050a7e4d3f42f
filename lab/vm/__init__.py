"""Instances that are virtual machines: their image, QEMU, their network, the instance metadata service."""
