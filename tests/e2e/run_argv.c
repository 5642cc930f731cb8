/* Execute one program with each argv of a file, one after the other, and print the pids.
 *
 *     run_argv ARGVS PROGRAM
 *
 * ARGVS holds for each argv its count as a 32-bit integer of this machine, then so many strings with a NUL behind each.
 * The program gets no environment, for that counts towards what execve takes. Exits 1 where anything goes wrong.
 */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static void must(int ok, const char *what) {
    if (!ok) {
        perror(what);
        exit(1);
    }
}

/* The pid under which PROGRAM ran with these arguments, to its end. */
static pid_t execute(const char *program, char **argv) {
    char *nothing[] = {NULL};
    int status;
    pid_t pid = vfork();
    if (pid == 0) {
        execve(program, argv, nothing);
        _exit(127);
    }
    must(pid > 0, "vfork");
    must(waitpid(pid, &status, 0) == pid, "waitpid");
    must(WIFEXITED(status) && WEXITSTATUS(status) != 127, "execve");
    return pid;
}

int main(int argc, char **argv) {
    must(argc == 3, "usage: run_argv ARGVS PROGRAM");
    int file = open(argv[1], O_RDONLY);
    struct stat told;
    must(file >= 0 && fstat(file, &told) == 0, argv[1]);
    char *p = mmap(NULL, (size_t)told.st_size, PROT_READ, MAP_PRIVATE, file, 0);
    must(p != MAP_FAILED, "mmap");
    const char *end = p + told.st_size;
    while (p < end) {
        uint32_t count;
        memcpy(&count, p, sizeof count);
        p += sizeof count;
        char **words = calloc((size_t)count + 1, sizeof *words);
        must(words != NULL, "calloc");
        for (uint32_t i = 0; i < count; i++) {
            words[i] = p;
            p += strlen(p) + 1;
        }
        printf("%d\n", (int)execute(argv[2], words));
        free(words);
    }
    return fflush(stdout) == 0 ? 0 : 1;
}
