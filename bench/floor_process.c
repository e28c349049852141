/*
 * floor_process.c: the least that a child process costs here: C, posix_spawn(3) and waitpid(2), nothing else. What
 * `make bench` measures of it is the floor under every loop's process rows.
 *
 *     floor_process spawn|pipes PROGRAM COUNT
 *
 * spawn: starts PROGRAM and waits for its end. pipes: also sends it a message, as PROGRAM's input, and reads the
 * same from its output. One after the other. Prints a line of JSON, as bench/servers/processes.py does.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <spawn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { MESSAGE_SIZE = 1024, WARMUP = 10 };

extern char **environ;

static int64_t now_ns(clockid_t clock)
{
	struct timespec t;

	clock_gettime(clock, &t);
	return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static void check(int failed, const char *what)
{
	if (failed) {
		perror(what);
		exit(1);
	}
}

static void run(char *program, int pipes)
{
	char *args[] = {program, NULL}, message[MESSAGE_SIZE], answer[MESSAGE_SIZE];
	int to[2], from[2], status;
	posix_spawn_file_actions_t actions;
	ssize_t n, got = 0;
	pid_t pid;

	check(posix_spawn_file_actions_init(&actions), "posix_spawn_file_actions_init");
	if (pipes) {
		check(pipe2(to, O_CLOEXEC) || pipe2(from, O_CLOEXEC), "pipe2");
		posix_spawn_file_actions_adddup2(&actions, to[0], 0);
		posix_spawn_file_actions_adddup2(&actions, from[1], 1);
	}
	check(posix_spawn(&pid, program, &actions, NULL, args, environ), "posix_spawn");
	posix_spawn_file_actions_destroy(&actions);
	if (pipes) {
		close(to[0]);
		close(from[1]);
		for (int i = 0; i < MESSAGE_SIZE; i++)
			message[i] = (char)i;
		check(write(to[1], message, MESSAGE_SIZE) != MESSAGE_SIZE, "write");
		close(to[1]);
		while ((n = read(from[0], answer + got, MESSAGE_SIZE - got)) > 0)
			got += n;
		close(from[0]);
		check(got != MESSAGE_SIZE || memcmp(answer, message, MESSAGE_SIZE), "another answer");
	}
	check(waitpid(pid, &status, 0) != pid || status != 0, program);
}

static int ascending(const void *a, const void *b)
{
	int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

	return (x > y) - (x < y);
}

int main(int argc, char **argv)
{
	int count = argc == 4 ? atoi(argv[3]) : 0, pipes = argc == 4 && !strcmp(argv[1], "pipes");
	int64_t *took, start, start_cpu, wall;

	if (count <= 0) {
		fprintf(stderr, "usage: floor_process spawn|pipes PROGRAM COUNT\n");
		return 2;
	}
	took = calloc(count, sizeof(*took));
	check(!took, "calloc");
	for (int i = 0; i < WARMUP; i++)
		run(argv[2], pipes);
	start = now_ns(CLOCK_MONOTONIC);
	start_cpu = now_ns(CLOCK_PROCESS_CPUTIME_ID);
	for (int i = 0; i < count; i++) {
		int64_t begin = now_ns(CLOCK_MONOTONIC);

		run(argv[2], pipes);
		took[i] = now_ns(CLOCK_MONOTONIC) - begin;
	}
	wall = now_ns(CLOCK_MONOTONIC) - start;
	qsort(took, count, sizeof(*took), ascending);
	printf("{\"per_second\": %.1f, \"cpu_us\": %.2f, \"p50_us\": %.1f, \"p99_us\": %.1f}\n", count * 1e9 / wall,
	       (now_ns(CLOCK_PROCESS_CPUTIME_ID) - start_cpu) / 1e3 / count, took[count / 2] / 1e3,
	       took[count * 99 / 100] / 1e3);
	return 0;
}
