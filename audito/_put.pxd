# Leaves that write text: header-only, as those that read it in _scan.pxd. Each writes at p, where the caller has made room,
# and returns what is behind.

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

from audito._scan cimport Span, below, equal, load8

cdef enum:
    NUMBER_BYTES_MAX = 20           # of 2**64 - 1
    KEY_BYTES_MAX = 32


cdef struct Key:                    # what stands in a line before a field's value: `,"pid":`
    uint8_t text[KEY_BYTES_MAX]
    size_t len


cdef inline Key key_of(bytes text) except *:
    cdef Key key
    if len(text) > KEY_BYTES_MAX:
        raise ValueError(f"a key of more than {KEY_BYTES_MAX} bytes: {text!r}")
    memset(key.text, 0, KEY_BYTES_MAX)
    memcpy(key.text, <const char *>text, <size_t>len(text))
    key.len = <size_t>len(text)
    return key


cdef inline uint8_t *put_key(uint8_t *p, const Key *key) noexcept nogil:
    # Needs room for KEY_BYTES_MAX: a copy of as many bytes each time is two stores, and no call.
    memcpy(p, key.text, KEY_BYTES_MAX)
    return p + key.len


cdef inline uint8_t *put(uint8_t *p, const void *text, size_t len) noexcept nogil:
    if len:                                 # a span of nothing may point nowhere, which memcpy must not be given
        memcpy(p, text, len)
    return p + len


cdef inline uint8_t *put_span(uint8_t *p, Span text) noexcept nogil:
    return put(p, text.ptr, <size_t>text.len)


cdef inline uint8_t *put_number(uint8_t *p, uint64_t number) noexcept nogil:
    # Needs room for NUMBER_BYTES_MAX: as many are copied, whatever is behind the digits.
    cdef uint8_t digits[2 * NUMBER_BYTES_MAX]
    cdef int i = NUMBER_BYTES_MAX
    cdef uint32_t pair
    while number >= 10:                     # two a step: a step waits for the one before
        pair = <uint32_t>(number % 100)
        number //= 100
        i -= 2
        digits[i] = <uint8_t>(c'0' + pair // 10)
        digits[i + 1] = <uint8_t>(c'0' + pair % 10)
    if number or i == NUMBER_BYTES_MAX:
        i -= 1
        digits[i] = <uint8_t>(c'0' + number)
    memcpy(p, &digits[i], NUMBER_BYTES_MAX)
    return p + NUMBER_BYTES_MAX - i


cdef inline uint64_t unplain(uint64_t word) noexcept nogil:
    # The high bit of a byte is set where one of eight is not ASCII, a control byte, a quote or a backslash, and perhaps of
    # others behind the first one.
    return word & 0x8080808080808080ULL | below(word, c' ') | equal(word, c'"') | equal(word, c'\\')


cdef inline bint put_plain(uint8_t *p, const uint8_t *text, Py_ssize_t len) noexcept nogil:
    # Put a text in JSON's quotes; false: it is no such text, since JSON writes a part of it otherwise or it is not ASCII.
    cdef uint64_t bad = 0
    cdef uint32_t first
    cdef uint32_t last
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
    elif len >= 4:
        memcpy(&first, text, 4)
        memcpy(&last, text + len - 4, 4)
        memcpy(p, &first, 4)
        memcpy(p + len - 4, &last, 4)
        bad = unplain(first | <uint64_t>last << 32)
    else:
        while i < len:
            p[i] = text[i]
            bad |= unplain(<uint64_t>text[i] | 0x2020202020202000ULL)
            i += 1
    p[len] = c'"'
    return bad == 0
