# A search for many short texts at once, in one pass that mostly looks at every second byte.
#
# A needle has at least NEEDLE_BYTES_MIN bytes, so of any place where one stands, its bytes 0..2 or its bytes 1..3 are
# three bytes that begin at an even place: those are looked up. Shorter needles are whole texts. Letters match in
# either case. What is found is a hint that somebody has to look more closely; what is not found is not there.

from libc.stdint cimport uint8_t, uint16_t, uint32_t

cdef enum:
    NEEDLE_BYTES_MIN = 4
    NEEDLE_BYTES_MAX = 64
    NEEDLES_MAX = 2048
    HEADS = 4096                    # a power of two; 2 of each needle are used


cdef struct Needle:
    uint8_t text[NEEDLE_BYTES_MAX]  # in lower case
    uint16_t len


cdef struct Window:                 # three bytes of a needle
    uint16_t needle
    uint16_t offset                 # where in the needle they begin, 0 or 1
    uint16_t next                   # of the same head, plus one; 0: none


cdef class Needles:
    cdef list texts                 # of the needles
    cdef Needle *needles            # owned
    cdef int count
    cdef Window *windows            # owned; two of each needle
    cdef uint16_t heads[HEADS]      # first window of each hash, plus one; 0: none
    cdef uint32_t shorts[64]        # needles of up to three bytes, length in the top byte
    cdef int short_count
    cdef bint urls                  # "://" and an "@" behind it count, too

    cdef int add(self, bytes needle) except -1
    cdef bint has(self, const uint8_t *p, Py_ssize_t len) noexcept nogil
    cdef int next(self, const uint8_t *p, Py_ssize_t len, Py_ssize_t start, Py_ssize_t *at) noexcept nogil
    cdef int needle_at(self, uint32_t head, const uint8_t *p, Py_ssize_t i, Py_ssize_t start, Py_ssize_t len,
                       Py_ssize_t *at) noexcept nogil
    cdef bint has_url(self, const uint8_t *p, Py_ssize_t len) noexcept nogil
