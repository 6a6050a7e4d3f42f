"""What every part of the lab uses: settings, environments, system calls, the packet filter."""
