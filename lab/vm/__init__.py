"""Instances that are virtual machines: the image, QEMU, their network, their metadata service."""
