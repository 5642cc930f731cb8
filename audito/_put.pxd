# Leaves that write text: header-only, as those that read it in _scan.pxd. Each writes at p, where the caller has made room,
# and returns what is behind.

from libc.stdint cimport uint8_t, uint64_t
from libc.string cimport memcpy

from audito._scan cimport Span

cdef enum:
    NUMBER_BYTES_MAX = 20           # of 2**64 - 1


cdef inline uint8_t *put(uint8_t *p, const void *text, size_t len) noexcept nogil:
    if len:                                 # a span of nothing may point nowhere, which memcpy must not be given
        memcpy(p, text, len)
    return p + len


cdef inline uint8_t *put_span(uint8_t *p, Span text) noexcept nogil:
    return put(p, text.ptr, <size_t>text.len)


cdef inline uint8_t *put_number(uint8_t *p, uint64_t number) noexcept nogil:
    cdef uint8_t digits[NUMBER_BYTES_MAX]
    cdef int i = NUMBER_BYTES_MAX
    while True:
        i -= 1
        digits[i] = <uint8_t>(c'0' + number % 10)
        number //= 10
        if number == 0:
            return put(p, &digits[i], <size_t>(NUMBER_BYTES_MAX - i))
