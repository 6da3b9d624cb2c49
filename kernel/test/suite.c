/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Runs the programs of a public test suite, one after the other: `suite LIST [FIRST [STEP [WORD ...]]]`. It is the machine's first program, or the only
 * one beside it.
 *
 * LIST has a line a test: its name, how many seconds it may take, whether its output is printed ("all") or only the last of it when it
 * fails ("fail"), and a command of the shell, with a tab between them. Of the tests, counted from 0, the FIRST runs and
 * every STEPth after it, but not those that have none of the WORDs in their names. Each runs in
 * a session and an empty directory of its own, its input is /dev/null. For each is printed "RESULT number name how": the exit status,
 * "signal N" or "timeout". After it every process but this one is killed.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { LINE = 4096, SHOWN = 600 };

static const char said[] = "/tmp/suite.said";

static void test_begin(const char *command)
{
	sigset_t none;
	int fd;

	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	setsid();
	if ((fd = open("/dev/null", O_RDONLY)) < 0 || dup2(fd, 0) < 0)
		_exit(126);
	if ((fd = open(said, O_WRONLY | O_CREAT | O_TRUNC, 0644)) < 0 || dup2(fd, 1) < 0 ||
	    dup2(fd, 2) < 0)
		_exit(126);
	close(fd);
	if (chdir("/tmp/suite.dir") != 0)
		_exit(126);
	if (strchr(command, ' ') == NULL)
		execl(command, command, (char *)NULL);
	else
		execl("/bin/sh", "sh", "-c", command, (char *)NULL);
	_exit(127);
}

/* Waits for the process at most so long. Its status; -1: time is up. */
static int test_wait(pid_t pid, int seconds)
{
	struct timespec now, end;
	sigset_t child;
	int status;

	sigemptyset(&child);
	sigaddset(&child, SIGCHLD);
	clock_gettime(CLOCK_MONOTONIC, &end);
	end.tv_sec += seconds;
	for (;;) {
		pid_t got;

		while ((got = waitpid(-1, &status, WNOHANG)) > 0)
			if (got == pid)
				return status;
		clock_gettime(CLOCK_MONOTONIC, &now);
		if (now.tv_sec >= end.tv_sec)
			return -1;
		sigtimedwait(&child, NULL, &(struct timespec){ end.tv_sec - now.tv_sec, 0 });
	}
}

/* Prints the output whole, or its end. */
static void output_show(int whole)
{
	static char text[1 << 16];
	int fd = open(said, O_RDONLY);
	ssize_t n;

	if (fd < 0)
		return;
	if (!whole && lseek(fd, 0, SEEK_END) > SHOWN)
		lseek(fd, -SHOWN, SEEK_END);
	else
		lseek(fd, 0, SEEK_SET);
	while ((n = read(fd, text, sizeof(text))) > 0)
		fwrite(text, 1, (size_t)n, stdout);
	close(fd);
	puts("");
}

static void test_run(int number, char *name, int seconds, int all, const char *command)
{
	int status;
	pid_t pid;

	printf("START %d %s\n", number, name);
	fflush(stdout);
	rmdir("/tmp/suite.dir");
	if (mkdir("/tmp/suite.dir", 0755) != 0 &&
	    system(
		" chmod -R u+rwx /tmp/suite.dir 2>/dev/null; rm -rf /tmp/suite.dir; mkdir /tmp/suite.dir") !=
		0)
		exit(1);
	if ((pid = fork()) == 0)
		test_begin(command);
	status = pid < 0 ? 126 << 8 : test_wait(pid, seconds);
	kill(-1, SIGKILL);
	while (waitpid(-1, NULL, status == -1 ? 0 : WNOHANG) > 0)
		;
	if (all || status != 0)
		output_show(all);
	if (status == -1)
		printf("RESULT %d %s timeout\n", number, name);
	else if (WIFSIGNALED(status))
		printf("RESULT %d %s signal %d\n", number, name, WTERMSIG(status));
	else
		printf("RESULT %d %s %d\n", number, name, WEXITSTATUS(status));
	fflush(stdout);
}

static int chosen(const char *name, char **words)
{
	for (; *words != NULL; words++)
		if (strstr(name, *words) != NULL)
			return 1;
	return 0;
}

int main(int argc, char **argv)
{
	static char line[LINE];
	int first = argc > 2 ? atoi(argv[2]) : 0, step = argc > 3 ? atoi(argv[3]) : 1, number = -1;
	FILE *list = argc > 1 ? fopen(argv[1], "re") : NULL;
	sigset_t child;

	if (list == NULL) {
		perror("suite");
		return 1;
	}
	sigemptyset(&child);
	sigaddset(&child, SIGCHLD);
	sigprocmask(SIG_BLOCK, &child, NULL);
	setrlimit(RLIMIT_CORE, &(struct rlimit){ 0, 0 });
	mkdir("/dev/shm", 01777);
	setenv("PATH", "/usr/sbin:/usr/bin:/sbin:/bin", 1);
	while (fgets(line, sizeof(line), list) != NULL) {
		char *name = strtok(line, "\t"), *seconds = strtok(NULL, "\t"),
		     *how = strtok(NULL, "\t"), *command = strtok(NULL, "\n");

		if (command == NULL || ++number < first || (number - first) % step != 0)
			continue;
		if (argc <= 4 || chosen(name, argv + 4))
			test_run(number, name, atoi(seconds), strcmp(how, "all") == 0, command);
	}
	puts("SUITE ENDED");
	return 0;
}
