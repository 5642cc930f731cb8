# Leaves that write text: header-only, as those that read it in _scan.pxd. Each writes at p, where the caller has made room,
# and returns what is behind.

from libc.stdint cimport uint8_t, uint64_t
from libc.string cimport memcpy

from audito._scan cimport Span, load8

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


cdef inline uint64_t unplain(uint64_t word) noexcept nogil:
    # The high bit of a byte is set where one of eight is not ASCII, a control byte, a quote or a backslash, and perhaps of
    # others behind the first one. A word less so many in each byte borrows where the byte is below that.
    cdef uint64_t quote = word ^ 0x2222222222222222ULL
    cdef uint64_t backslash = word ^ 0x5C5C5C5C5C5C5C5CULL
    return (word | ((word - 0x2020202020202020ULL) & ~word) | ((quote - 0x0101010101010101ULL) & ~quote)
            | ((backslash - 0x0101010101010101ULL) & ~backslash)) & 0x8080808080808080ULL


cdef inline bint put_plain(uint8_t *p, const uint8_t *text, Py_ssize_t len) noexcept nogil:
    # Put a text in JSON's quotes; false: it is no such text, since JSON writes a part of it otherwise or it is not ASCII.
    cdef uint64_t bad = 0
    cdef Py_ssize_t i = 0
    p[0] = c'"'
    p += 1
    if len >= 8:
        while i < len - 8:
            bad |= unplain(load8(text + i))
            memcpy(p + i, text + i, 8)
            i += 8
        bad |= unplain(load8(text + len - 8))
        memcpy(p + len - 8, text + len - 8, 8)
    else:
        while i < len:
            p[i] = text[i]
            bad |= <uint64_t>(text[i] < c' ' or text[i] >= 0x80 or text[i] == c'"' or text[i] == c'\\')
            i += 1
    p[len] = c'"'
    return bad == 0
