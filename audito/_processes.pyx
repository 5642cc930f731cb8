"""Who started whom in a session, learnt from its audit events in passing. See _processes.pxd for the structs."""

from cpython.mem cimport PyMem_Calloc, PyMem_Free
from cpython.ref cimport Py_INCREF, Py_XDECREF
from libc.stdint cimport int64_t, uint8_t
from posix.time cimport clock_gettime, timespec

from audito._scan cimport span_of

from audito import events

cdef extern from "<time.h>":
    enum: CLOCK_REALTIME_COARSE     # a tick (4 to 10 ms) behind the clock, and 5 ns a look

# As C variables: a global that is looked up by name costs more.
cdef object Context = events.Context
cdef object Parent = events.Parent
cdef object context_part = events.context_part


cdef inline void put(PyObject **place, object value) noexcept:
    # Let a place of a row own the value; None empties it.
    cdef PyObject *old = place[0]
    if value is None:
        place[0] = NULL
    else:
        Py_INCREF(value)
        place[0] = <PyObject *>value
    Py_XDECREF(old)


cdef inline bint is_of(Process *process, int32_t slot, uint32_t generation, int32_t pid) noexcept nogil:
    return process.pid == pid and process.slot == slot and process.generation == generation


cdef inline bint is_recent(uint64_t time_ms) noexcept nogil:
    # Whether a record is of now. Decided before anybody is called for it: of a backlog no process is looked up, and the
    # call alone was a twentieth of what an event costs.
    cdef timespec now
    cdef int64_t age_ms
    clock_gettime(CLOCK_REALTIME_COARSE, &now)
    age_ms = <int64_t>now.tv_sec * 1000 + now.tv_nsec // 1_000_000 - <int64_t>time_ms
    return -RECENT_MS <= age_ms <= RECENT_MS


cdef Lineage lineage_of(int32_t pid, tuple programs):
    cdef Lineage lineage = Lineage.__new__(Lineage)
    cdef Py_ssize_t size
    lineage.pid = pid
    lineage.programs = programs
    lineage.json = context_part(Context(parent=Parent(pid, programs[0]), ancestors=programs))
    size = lineage.json.index(b',"ancestors":')     # in a text the quotes would have backslashes
    lineage.parent = span_of(<const uint8_t *><const char *>lineage.json, size)
    lineage.ancestors = span_of(lineage.parent.ptr + size, len(lineage.json) - size)
    return lineage


cdef class Lineage:
    pass


cdef class Processes:

    def __cinit__(self, container_of=None):
        self.container_of = container_of
        self.rows_begin = PROCESSES
        # calloc gives untouched pages: a table that is not used costs no memory.
        self.rows = <Process *>PyMem_Calloc(PROCESSES, sizeof(Process))
        if not self.rows:
            raise MemoryError()

    def __dealloc__(self):
        cdef int i
        for i in range(self.rows_begin, self.rows_end):
            self.clear(&self.rows[i])
        PyMem_Free(self.rows)

    cdef Process *meet(self, int32_t slot, uint32_t generation, int32_t pid, int32_t ppid, str exe,
                       uint64_t time_ms) except NULL:
        # The row of a process that an event tells of, brought up to date. ppid 0, exe None: the event does not say.
        cdef Process *process = &self.rows[<uint32_t>pid & (PROCESSES - 1)]
        if not is_of(process, slot, generation, pid) or (
                ppid and process.ppid and ppid != process.ppid and ppid != ORPHANS_PPID):
            self.start(process, slot, generation, pid, ppid)
        elif process.above is NULL and ppid:
            process.ppid = ppid
            put(&process.above, self.children_of(slot, generation, ppid))
            if process.above is not NULL:
                put(&process.below, None)       # made without it
        if exe is not None and (process.exe is NULL or (
                <PyObject *>exe != process.exe and exe != <str>process.exe)):
            self.execute(process, exe, time_ms)
        return process

    cdef int start(self, Process *process, int32_t slot, uint32_t generation, int32_t pid, int32_t ppid) except -1:
        # A process that is met the first time: its ancestors are those of now, whatever its parent executes later.
        cdef Lineage above = self.children_of(slot, generation, ppid)     # before: its parent may have this place
        self.take(process, slot, generation, pid, ppid)
        put(&process.above, above)
        return 0

    cdef void take(self, Process *process, int32_t slot, uint32_t generation, int32_t pid, int32_t ppid) noexcept:
        # The row is this process's from now on.
        cdef int place = <int>(process - self.rows)
        self.clear(process)
        process.pid = pid
        process.ppid = ppid
        process.slot = slot
        process.generation = generation
        self.rows_begin = min(self.rows_begin, place)
        if self.rows_end <= place:
            self.rows_end = place + 1

    cdef int execute(self, Process *process, str exe, uint64_t time_ms) except -1:
        # It runs this program now. A container's runtime enters the container and then executes its program, so this
        # is when to look where it is.
        put(&process.exe, exe)
        put(&process.below, None)
        put(&process.container, None)
        if self.container_of is not None and is_recent(time_ms):
            found = self.container_of(process.pid, time_ms)
            if found is not None:
                put(&process.container, context_part(Context(container=found)))
        return 0

    cdef Lineage children_of(self, int32_t slot, uint32_t generation, int32_t pid):
        # What the children of this process have above them; None where no event of the session told of it.
        cdef Process *process = &self.rows[<uint32_t>pid & (PROCESSES - 1)]
        cdef tuple programs
        if pid == 0 or not is_of(process, slot, generation, pid) or process.exe is NULL:
            return None
        if process.below is NULL:
            programs = (<object>process.exe,)
            if process.above is not NULL:
                programs += (<Lineage>process.above).programs[:ANCESTORS_MAX - 1]
            put(&process.below, lineage_of(pid, programs))
        return <Lineage>process.below

    cdef void clear(self, Process *process) noexcept:
        put(&process.exe, None)
        put(&process.above, None)
        put(&process.below, None)
        put(&process.container, None)
        process.pid = 0

    # ------------------------------------------------------------------------------ for the checkpoint

    def dump(self):
        cdef Process *process
        cdef Lineage above
        cdef list rows = []
        cdef int i
        cdef bint parents
        for parents in (True, False):
            for i in range(self.rows_begin, self.rows_end):
                process = &self.rows[i]
                if process.pid == 0 or process.exe is NULL or (process.below is not NULL) != parents:
                    continue
                if len(rows) >= SAVED_MAX:
                    return rows
                above = None if process.above is NULL else <Lineage>process.above
                rows.append((process.slot, process.generation, process.pid, process.ppid, <object>process.exe,
                             above.pid if above is not None else 0, above.programs if above is not None else ()))
        return rows

    def load(self, rows):
        cdef Process *process
        cdef dict shared = {}
        for slot, generation, pid, ppid, exe, parent, programs in rows:
            process = &self.rows[<uint32_t>pid & (PROCESSES - 1)]
            self.take(process, slot, generation, pid, ppid)
            put(&process.exe, exe)
            if programs:
                key = (parent, tuple(programs))
                if key not in shared:
                    shared[key] = lineage_of(parent, key[1])
                put(&process.above, shared[key])
