"""Keep freed memory for the next step instead of handing it back to the kernel.

It rests on glibc and does nothing elsewhere.
"""

import ctypes
import sys

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4  # from glibc's malloc.h


def keep_freed_memory() -> bool:
    """Ask glibc's allocator to keep what a training step frees; return whether it agreed.

    A step on the CPU allocates and frees the same hundreds of megabytes. By default glibc maps and
    unmaps them each time, and the page faults cost about a third of a step of the ConvNet. Results
    do not change. The process then keeps its peak memory until it ends.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # another C library
        return False
    settings = ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, 2**31 - 1), (_M_TOP_PAD, 256 * 2**20))
    answers = [mallopt(name, value) for name, value in settings]
    return answers == [1, 1, 1]
