"""Intel's Level Zero, asked by itself: what is there beneath SYCL and torch. Standard library only."""

import ctypes
from collections.abc import Callable
from functools import partial

# ze_result_t and ze_device_type_t of ze_api.h.
_SUCCESS, _UNINITIALIZED, _GPU = 0, 0x78000001, 1

# Room for ze_device_properties_t, whose third field (after stype and pNext) is the device's type.
_PROPERTIES, _TYPE_AT, _STYPE = 1024, 16, 0x3


def gpus() -> tuple[int, str]:
    """How many GPUs Level Zero sees, and what it said when there is none.

    Raises:
        OSError: there is no loader.
    """
    library = ctypes.CDLL("libze_loader.so.1")
    code = library.zeInit(0) & 0xFFFFFFFF
    if code == _UNINITIALIZED:
        return 0, "zeInit finds no driver with a device"
    if code != _SUCCESS:
        return 0, f"zeInit says 0x{code:08x}"
    drivers = _handles(library.zeDriverGet)
    devices = [each for driver in drivers for each in _handles(partial(library.zeDeviceGet, driver))]
    found = sum(_is_gpu(library, device) for device in devices)
    return found, "" if found else "its drivers have no GPU"


def _handles(get: Callable[..., int]) -> list[ctypes.c_void_p]:
    """What a function gives that is asked twice: for the number, then for the handles."""
    count = ctypes.c_uint32(0)
    if get(ctypes.byref(count), None) != _SUCCESS or not count.value:
        return []
    out = (ctypes.c_void_p * count.value)()
    if get(ctypes.byref(count), out) != _SUCCESS:
        return []
    return [ctypes.c_void_p(each) for each in out]


def _is_gpu(library: ctypes.CDLL, device: ctypes.c_void_p) -> bool:
    room = (ctypes.c_uint32 * (_PROPERTIES // 4))()
    room[0] = _STYPE
    if library.zeDeviceGetProperties(device, room) != _SUCCESS:
        return False
    return int(room[_TYPE_AT // 4]) == _GPU
