# Copyright: (c) 2026, the ec2-backup developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A local EC2 for tests, demos and benchmarks: ``lab/run CMD...`` (see docs/lab.md)."""
