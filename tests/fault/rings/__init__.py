"""The longer tests of faults: servers that are away for long, disks that fill, clocks that are wrong, many workers."""
