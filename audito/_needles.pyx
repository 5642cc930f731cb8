"""A search for many short texts at once. See _needles.pxd."""

from libc.stdlib cimport calloc, free
from libc.string cimport memchr, memcpy, memset

from audito._scan cimport lower

cdef extern from "string.h" nogil:
    void *memmem(const void *haystack, size_t haystack_len, const void *needle, size_t needle_len)


cdef inline uint32_t head_of(uint32_t three) noexcept nogil:
    # Place of three bytes in the heads. Bit 5 is set in all of them, which makes letters equal in either case; that
    # it does so to other bytes, too, costs a look at the needle, no more.
    return ((three & 0xFFFFFF) | 0x202020) * 0x9E3779B1u >> 20


cdef inline uint32_t load4(const uint8_t *p) noexcept nogil:
    # Four bytes from anywhere, the first in the low bits on every machine; one instruction on most.
    return <uint32_t>p[0] | <uint32_t>p[1] << 8 | <uint32_t>p[2] << 16 | <uint32_t>p[3] << 24


cdef inline uint32_t load_upto3(const uint8_t *p, Py_ssize_t len) noexcept nogil:
    cdef uint32_t value = <uint32_t>len << 24
    cdef Py_ssize_t i
    for i in range(len):
        value |= <uint32_t>lower(p[i]) << 8 * i
    return value


cdef class Needles:

    def __cinit__(self, needles, bint urls=False):
        cdef bytes text
        texts = sorted({needle.encode().lower() for needle in needles})
        self.texts = [text.decode() for text in texts if len(text) >= NEEDLE_BYTES_MIN]
        if len(texts) > NEEDLES_MAX:
            raise ValueError(f"{len(texts)} needles are more than {NEEDLES_MAX}")
        self.urls = urls
        memset(self.heads, 0, sizeof(self.heads))
        self.needles = <Needle *>calloc(<size_t>len(texts) + 1, sizeof(Needle))
        self.windows = <Window *>calloc(2 * <size_t>len(texts) + 1, sizeof(Window))
        if self.needles is NULL or self.windows is NULL:
            raise MemoryError()
        for text in texts:
            self.add(text)

    def __dealloc__(self):
        free(self.needles)
        free(self.windows)

    cdef int add(self, bytes needle) except -1:
        cdef const uint8_t *p = <const uint8_t *><const char *>needle
        cdef Window *window
        cdef uint32_t head
        cdef uint16_t offset
        if not 0 < len(needle) <= NEEDLE_BYTES_MAX:
            raise ValueError(f"a needle has 1 to {NEEDLE_BYTES_MAX} bytes: {needle!r}")
        if len(needle) < NEEDLE_BYTES_MIN:
            if self.short_count == sizeof(self.shorts) // sizeof(self.shorts[0]):
                raise ValueError(f"too many needles of fewer than {NEEDLE_BYTES_MIN} bytes")
            self.shorts[self.short_count] = load_upto3(p, len(needle))
            self.short_count += 1
            return 0
        memcpy(self.needles[self.count].text, p, <size_t>len(needle))
        self.needles[self.count].len = <uint16_t>len(needle)
        for offset in range(2):
            head = head_of(load4(p) >> 8 * offset)
            window = &self.windows[2 * self.count + offset]
            window.needle = <uint16_t>self.count
            window.offset = offset
            window.next = self.heads[head]
            self.heads[head] = <uint16_t>(2 * self.count + offset + 1)
        self.count += 1
        return 0

    def found(self, bytes text not None):
        return bool(self.has(<const uint8_t *><const char *>text, len(text)))

    def find(self, bytes text not None, Py_ssize_t start=0):
        cdef Py_ssize_t at = 0
        cdef int needle = -1
        if len(text) >= NEEDLE_BYTES_MIN and start >= 0:
            needle = self.next(<const uint8_t *><const char *>text, len(text), start, &at)
        return None if needle < 0 else (at, self.texts[needle])

    cdef bint has(self, const uint8_t *p, Py_ssize_t len) noexcept nogil:
        cdef Py_ssize_t i = 0
        cdef uint32_t short_text
        if len < NEEDLE_BYTES_MIN:
            short_text = load_upto3(p, len)
            for i in range(self.short_count):
                if self.shorts[i] == short_text:
                    return True
            return False
        return self.next(p, len, 0, &i) >= 0 or (self.urls and self.has_url(p, len))

    cdef int next(self, const uint8_t *p, Py_ssize_t len, Py_ssize_t start, Py_ssize_t *at) noexcept nogil:
        # The first needle that begins at `start` or behind it, and where; -1: none.
        cdef Py_ssize_t i = start
        cdef uint32_t head
        cdef int needle
        while i + 4 <= len:
            head = head_of(load4(p + i))
            if self.heads[head]:
                needle = self.needle_at(head, p, i, start, len, at)
                if needle >= 0:
                    return needle
            i += 2
        if i + 3 <= len and i > start:
            head = head_of(load4(p + i - 1) >> 8)
            if self.heads[head]:
                return self.needle_at(head, p, i, start, len, at)
        return -1

    cdef int needle_at(self, uint32_t head, const uint8_t *p, Py_ssize_t i, Py_ssize_t start, Py_ssize_t len,
                       Py_ssize_t *at) noexcept nogil:
        # Which of the needles of this head stands around `i`; -1: none.
        cdef uint16_t next = self.heads[head]
        cdef Window *window
        cdef Needle *needle
        cdef Py_ssize_t first, n
        while next:
            window = &self.windows[next - 1]
            needle = &self.needles[window.needle]
            next = window.next
            first = i - window.offset
            if first < start or first + needle.len > len:
                continue
            for n in range(needle.len):
                if lower(p[first + n]) != needle.text[n]:
                    break
            else:
                at[0] = first
                return window.needle
        return -1

    cdef bint has_url(self, const uint8_t *p, Py_ssize_t len) noexcept nogil:
        # Whether there can be a URL with credentials.
        cdef const uint8_t *at = <const uint8_t *>memchr(p, c'@', <size_t>len)
        cdef const uint8_t *scheme
        if at is NULL:
            return False
        scheme = <const uint8_t *>memmem(p, <size_t>len, b"://", 3)
        return scheme is not NULL and memchr(scheme, c'@', <size_t>(p + len - scheme)) is not NULL
