# The processes of sessions, as far as audit events told of them: who started whom. The .pyx has the bodies.
#
# Ownership in one sentence: a row owns the Python objects that it points to until it is overwritten, and a Lineage is
# shared by all children of one process. Nobody tells us that a process ended, so a row stays until its place is needed.

from cpython.ref cimport PyObject
from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t

from audito._scan cimport Span

cdef extern from *:
    void __builtin_prefetch(const void *address) nogil

cdef enum:
    PROCESSES = 32768               # rows, a power of two: the usual kernel.pid_max, with which no two share a place
    ANCESTORS_MAX = 16              # programs of a chain; what lies behind them is left out
    SAVED_MAX = 4096                # rows in a checkpoint, parents before the others
    RECENT_MS = 10_000              # a cgroup of now says little of an older record: processes are moved
    ORPHANS_PPID = 1                # who takes over a process whose parent ended; never the parent of a new one of ours


cdef class Lineage:
    # What the children of one process have above them, from it up to sshd. Never changed.
    cdef tuple programs             # texts of exe, the parent's first
    cdef int32_t pid                # of the parent
    cdef bytes json                 # owns both, as events.context_part() writes them
    cdef Span parent
    cdef Span ancestors


cdef struct Process:
    int32_t pid                     # 0: the row is free
    int32_t ppid                    # of the one that started it, 0: not told
    int32_t slot                    # of its session, and …
    uint32_t generation             # … that slot's, so that a pid never meets another session's process
    PyObject *exe                   # text, NULL: not told
    PyObject *above                 # Lineage that it was started with, NULL: no event told of its parent
    PyObject *below                 # Lineage of its children, NULL: none yet since it executed its program
    PyObject *container             # bytes, of events.context_part(); NULL: none, or not known


cdef class Processes:
    # Direct mapped by pid.
    cdef Process *rows
    cdef int rows_begin             # what is before it was never used, nor touched …
    cdef int rows_end               # … nor what begins here
    cdef object container_of        # of a recent record, (pid, its time in ms) → events.Container or None; None: not live

    cdef inline void prefetch(self, int64_t pid) noexcept nogil:
        # Of a pid that meet() is asked for next: with many sessions its row comes from memory, and then …
        cdef Process *process = &self.rows[<uint32_t>pid & (PROCESSES - 1)]
        __builtin_prefetch(process)
        __builtin_prefetch(<uint8_t *>(process + 1) - 1)

    cdef inline void prefetch_objects(self, int64_t pid) noexcept nogil:
        # … what it points to.
        cdef Process *process = &self.rows[<uint32_t>pid & (PROCESSES - 1)]
        __builtin_prefetch(process.above)
        __builtin_prefetch(process.below)

    cdef Process *meet(self, int32_t slot, uint32_t generation, int32_t pid, int32_t ppid, str exe,
                       uint64_t time_ms) except NULL
    cdef void take(self, Process *process, int32_t slot, uint32_t generation, int32_t pid, int32_t ppid) noexcept
    cdef int start(self, Process *process, int32_t slot, uint32_t generation, int32_t pid, int32_t ppid) except -1
    cdef int execute(self, Process *process, str exe, uint64_t time_ms) except -1
    cdef Lineage children_of(self, int32_t slot, uint32_t generation, int32_t pid)
    cdef void clear(self, Process *process) noexcept
