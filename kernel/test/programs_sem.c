/* SPDX-License-Identifier: BSD-2-Clause */
/* Semaphores of System V: a part of the program `programs`. */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/sem.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "programs.h"

union semun {
	int val;
	struct semid_ds *buf;
	unsigned short *array;
};

static long op(int id, unsigned short num, short by, short flags)
{
	struct sembuf b = { num, by, flags };

	return semop(id, &b, 1);
}

static int value(int id, int num) { return semctl(id, num, GETVAL); }

static void semaphores_count(void)
{
	struct sembuf two[2] = { { 0, -1, IPC_NOWAIT }, { 1, -1, IPC_NOWAIT } };
	unsigned short all[3] = { 1, 0, 7 }, got[3] = { 9, 9, 9 };
	struct semid_ds ds;
	int id = semget(IPC_PRIVATE, 3, 0600);

	CHECK(id >= 0 && value(id, 0) == 0);
	CHECK(semctl(id, 0, SETALL, (union semun){ .array = all }) == 0);
	CHECK(semctl(id, 0, GETALL, (union semun){ .array = got }) == 0 && got[0] == 1 &&
	    got[2] == 7);
	CHECK(fails(semop(id, two, 2), EAGAIN) && value(id, 0) == 1); /* all or nothing */
	CHECK(op(id, 1, 2, 0) == 0 && semop(id, two, 2) == 0 && value(id, 0) == 0 &&
	    value(id, 1) == 1);
	CHECK(op(id, 0, 0, IPC_NOWAIT) == 0 && fails(op(id, 1, 0, IPC_NOWAIT), EAGAIN));
	CHECK(semctl(id, 1, GETPID) == getpid());
	CHECK(semctl(id, 0, IPC_STAT, (union semun){ .buf = &ds }) == 0 && ds.sem_nsems == 3 &&
	    ds.sem_otime > 0 && (ds.sem_perm.mode & 0777) == 0600);
	CHECK(fails(op(id, 3, 1, 0), EFBIG) && fails(semctl(id, 3, GETVAL), EINVAL));
	CHECK(fails(semctl(id, 0, SETVAL, (union semun){ .val = 40000 }), ERANGE));
	CHECK(semctl(id, 0, SETVAL, (union semun){ .val = 32767 }) == 0 &&
	    fails(op(id, 0, 1, 0), ERANGE));
	CHECK(semctl(id, 0, IPC_RMID) == 0 && fails(op(id, 0, 1, 0), EINVAL));
}

static void semaphores_have_keys(void)
{
	key_t key = 0x5152;
	int id = semget(key, 2, IPC_CREAT | IPC_EXCL | 0600);

	CHECK(id >= 0 && semget(key, 2, 0) == id && semget(key, 0, IPC_CREAT) == id);
	CHECK(fails(semget(key, 2, IPC_CREAT | IPC_EXCL), EEXIST) &&
	    fails(semget(key, 3, 0), EINVAL));
	CHECK(semctl(id, 0, IPC_RMID) == 0 && fails(semget(key, 2, 0), ENOENT));
	CHECK(fails(semget(IPC_PRIVATE, 0, 0), EINVAL));
}

/* Four processes add to a plain number under a semaphore; each that waits goes on. */
static void semaphores_exclude(void)
{
	int id = semget(IPC_PRIVATE, 1, 0600), status;
	pid_t pid[4];
	volatile int *n = mmap(NULL, PG, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	CHECK(semctl(id, 0, SETVAL, (union semun){ .val = 1 }) == 0);
	for (int i = 0; i < 4; i++) {
		if ((pid[i] = fork()) != 0)
			continue;
		for (int k = 0; k < 500; k++) {
			if (op(id, 0, -1, SEM_UNDO) != 0)
				_exit(1);
			*n = *n + 1;
			if (op(id, 0, 1, SEM_UNDO) != 0)
				_exit(1);
		}
		_exit(0);
	}
	for (int i = 0; i < 4; i++)
		CHECK(waitpid(pid[i], &status, 0) == pid[i] && status == 0);
	CHECK(*n == 2000 && value(id, 0) == 1);
	CHECK(semctl(id, 0, IPC_RMID) == 0);
	munmap((void *)(uintptr_t)n, PG);
}

/* What a process that is killed holds is given back; a removed set wakes who waits for it. */
static void semaphores_are_undone(void)
{
	struct sembuf b = { 0, -1, 0 };
	struct timespec soon = { 0, 20000000 };
	int id = semget(IPC_PRIVATE, 1, 0600), status;
	pid_t pid;

	CHECK(semctl(id, 0, SETVAL, (union semun){ .val = 1 }) == 0);
	if ((pid = fork()) == 0) {
		(void)op(id, 0, -1, SEM_UNDO);
		raise(SIGKILL);
	}
	CHECK(waitpid(pid, &status, 0) == pid && WIFSIGNALED(status) && value(id, 0) == 1);
	CHECK(op(id, 0, -1, 0) == 0 && fails(semtimedop(id, &b, 1, &soon), EAGAIN));
	if ((pid = fork()) == 0)
		_exit(fails(op(id, 0, -1, 0), EIDRM) ? 0 : 1);
	while (semctl(id, 0, GETNCNT) == 0)
		usleep(1000);
	CHECK(semctl(id, 0, IPC_RMID) == 0);
	CHECK(waitpid(pid, &status, 0) == pid && status == 0);
}

const struct test sem_tests[] = {
	T(semaphores_count, 1),
	T(semaphores_have_keys, 1),
	T(semaphores_exclude, 1),
	T(semaphores_are_undone, 1),
	{ NULL, NULL, 0 },
};
