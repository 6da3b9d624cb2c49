/* SPDX-License-Identifier: BSD-2-Clause */
/* Message queues, of System V and of POSIX: a part of the program `programs`. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <mqueue.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "programs.h"

/* ---- System V ---- */
struct letter {
	long type;
	char text[64];
};

static int send_letter(int id, long type, const char *text, int flags)
{
	struct letter l = { .type = type };

	strcpy(l.text, text);
	return msgsnd(id, &l, strlen(text) + 1, flags);
}

static int is_received(int id, long type, int flags, long want, const char *text)
{
	struct letter l = { 0 };

	return msgrcv(id, &l, sizeof(l.text), type, flags) == (ssize_t)strlen(text) + 1 &&
	    l.type == want && strcmp(l.text, text) == 0;
}

static void messages_have_types(void)
{
	int id = msgget(IPC_PRIVATE, 0600);
	struct msqid_ds ds;
	struct letter l = { .type = 0 };

	CHECK(id >= 0);
	CHECK(fails(msgsnd(id, &l, 1, 0), EINVAL));
	CHECK(fails(msgrcv(id, &l, 1, 0, IPC_NOWAIT), ENOMSG));
	CHECK(send_letter(id, 5, "five", 0) == 0 && send_letter(id, 3, "three", 0) == 0 &&
	    send_letter(id, 5, "five again", 0) == 0 && send_letter(id, 9, "nine", 0) == 0);
	CHECK(msgctl(id, IPC_STAT, &ds) == 0 && ds.msg_qnum == 4 && ds.msg_lspid == getpid());
	CHECK(is_received(id, 5, 0, 5, "five"));
	CHECK(is_received(id, -8, 0, 3, "three"));
	CHECK(is_received(id, 5, MSG_EXCEPT, 9, "nine"));
	CHECK(fails(msgrcv(id, &l, 2, 0, 0), E2BIG));
	CHECK(msgrcv(id, &l, 2, 0, MSG_NOERROR) == 2 && memcmp(l.text, "fi", 2) == 0);
	CHECK(msgctl(id, IPC_STAT, &ds) == 0 && ds.msg_qnum == 0 && ds.msg_lrpid == getpid());
	CHECK(msgctl(id, IPC_RMID, NULL) == 0 && fails(send_letter(id, 1, "x", 0), EINVAL));
}

static void message_queues_have_keys(void)
{
	int id = msgget(0x5155, IPC_CREAT | IPC_EXCL | 0600);

	CHECK(id >= 0 && msgget(0x5155, 0) == id);
	CHECK(fails(msgget(0x5155, IPC_CREAT | IPC_EXCL), EEXIST));
	CHECK(msgctl(id, IPC_RMID, NULL) == 0 && fails(msgget(0x5155, 0), ENOENT));
}

/* The writer waits for room, the reader for messages; a removed queue wakes who waits. */
static void messages_are_waited_for(void)
{
	int id = msgget(IPC_PRIVATE, 0600), status;
	struct msqid_ds ds;
	char text[64];
	pid_t pid;

	CHECK(msgctl(id, IPC_STAT, &ds) == 0);
	ds.msg_qbytes = 100; /* as much as fits: the writer waits again and again */
	CHECK(msgctl(id, IPC_SET, &ds) == 0);
	if ((pid = fork()) == 0) {
		for (int i = 0; i < 200; i++) {
			snprintf(text, sizeof(text), "message %d", i);
			if (send_letter(id, 1 + i % 3, text, 0) != 0)
				_exit(1);
		}
		_exit(fails(msgrcv(id, text, 0, 77, 0), EIDRM) ? 0 : 2);
	}
	for (int i = 0; i < 200; i++) {
		snprintf(text, sizeof(text), "message %d", i);
		CHECK(is_received(id, 0, 0, 1 + i % 3, text));
	}
	CHECK(msgctl(id, IPC_RMID, NULL) == 0);
	/* the child may not have begun to wait: then the queue is unknown to it */
	CHECK(waitpid(pid, &status, 0) == pid && (status == 0 || status == 2 << 8));
}

/* ---- POSIX ---- */
static void messages_have_priorities(void)
{
	struct mq_attr a = { .mq_maxmsg = 4, .mq_msgsize = 32 };
	mqd_t q = mq_open("/quire", O_RDWR | O_CREAT | O_EXCL | O_NONBLOCK, 0600, &a), r;
	struct pollfd p;
	unsigned prio;
	char b[32];

	CHECK(q != (mqd_t)-1);
	CHECK(
	    mq_open("/quire", O_RDWR | O_CREAT | O_EXCL, 0600, &a) == (mqd_t)-1 && errno == EEXIST);
	CHECK(mq_open("/none", O_RDWR) == (mqd_t)-1 && errno == ENOENT);
	p = (struct pollfd){ q, POLLIN | POLLOUT, 0 };
	CHECK(poll(&p, 1, 0) == 1 && p.revents == POLLOUT);
	CHECK(fails(mq_receive(q, b, sizeof(b), NULL), EAGAIN));
	CHECK(mq_send(q, "low", 4, 1) == 0 && mq_send(q, "high", 5, 9) == 0);
	CHECK(mq_send(q, "low 2", 6, 1) == 0 && mq_send(q, "", 0, 0) == 0);
	CHECK(fails(mq_send(q, "full", 5, 1), EAGAIN) && fails(mq_send(q, b, 33, 1), EMSGSIZE));
	CHECK(fails(mq_send(q, "x", 1, 40000), EINVAL));
	CHECK(poll(&p, 1, 0) == 1 && p.revents == POLLIN);
	CHECK(mq_getattr(q, &a) == 0 && a.mq_curmsgs == 4 && a.mq_maxmsg == 4 &&
	    a.mq_flags == O_NONBLOCK);
	CHECK(fails(mq_receive(q, b, 31, NULL), EMSGSIZE));
	CHECK(mq_receive(q, b, sizeof(b), &prio) == 5 && prio == 9 && strcmp(b, "high") == 0);
	CHECK(
	    (r = mq_open("/quire", O_RDONLY)) != (mqd_t)-1 && fails(mq_send(r, "x", 1, 1), EBADF));
	CHECK(mq_unlink("/quire") == 0 && fails(mq_unlink("/quire"), ENOENT));
	CHECK(mq_close(q) == 0); /* the queue lives on in the other descriptor */
	CHECK(mq_receive(r, b, sizeof(b), &prio) == 4 && prio == 1 && strcmp(b, "low") == 0);
	CHECK(mq_receive(r, b, sizeof(b), &prio) == 6 && strcmp(b, "low 2") == 0);
	CHECK(mq_receive(r, b, sizeof(b), &prio) == 0 && prio == 0 && mq_close(r) == 0);
}

static void posix_messages_are_waited_for(void)
{
	struct mq_attr a = { .mq_maxmsg = 2, .mq_msgsize = 32 };
	mqd_t q = mq_open("/quire2", O_RDWR | O_CREAT, 0600, &a);
	struct timespec t;
	int status, n = -1;
	char b[32];
	pid_t pid;

	CHECK(q != (mqd_t)-1 && mq_unlink("/quire2") == 0);
	if ((pid = fork()) == 0) {
		for (int i = 0; i < 300; i++)
			if (mq_send(q, (char *)&i, sizeof(i), 0) != 0)
				_exit(1);
		_exit(0);
	}
	for (int i = 0; i < 300; i++) {
		CHECK(mq_receive(q, b, sizeof(b), NULL) == sizeof(n));
		memcpy(&n, b, sizeof(n));
		CHECK(n == i);
	}
	CHECK(waitpid(pid, &status, 0) == pid && status == 0);
	clock_gettime(CLOCK_REALTIME, &t);
	t.tv_nsec = t.tv_nsec + 20000000 >= 1000000000 ? (t.tv_sec++, 0) : t.tv_nsec + 20000000;
	CHECK(fails(mq_timedreceive(q, b, sizeof(b), NULL, &t), ETIMEDOUT));
	t.tv_nsec = 1000000000;
	CHECK(fails(mq_timedreceive(q, b, sizeof(b), NULL, &t), EINVAL));
	mq_close(q);
}

static volatile int told, told_value;
static void on_message(int sig, siginfo_t *si, void *context)
{
	(void)sig, (void)context;
	told += si->si_code == SI_MESGQ;
	told_value = si->si_value.sival_int;
}

static void messages_are_announced(void)
{
	struct sigaction sa = { .sa_sigaction = on_message, .sa_flags = SA_SIGINFO };
	struct sigevent ev = {
		.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1, .sigev_value.sival_int = 42
	};
	struct mq_attr a = { .mq_maxmsg = 4, .mq_msgsize = 32 };
	mqd_t q = mq_open("/quire3", O_RDWR | O_CREAT, 0600, &a);
	int status;
	pid_t pid;
	char b[32];

	CHECK(q != (mqd_t)-1 && mq_unlink("/quire3") == 0);
	sigaction(SIGUSR1, &sa, NULL);
	told = 0;
	CHECK(mq_notify(q, &ev) == 0);
	if ((pid = fork()) == 0)
		_exit(fails(mq_notify(q, &ev), EBUSY) && mq_send(q, "x", 1, 0) == 0 ? 0 : 1);
	while (waitpid(pid, &status, 0) == -1 && errno == EINTR)
		;
	CHECK(status == 0 && told == 1 && told_value == 42);
	CHECK(mq_send(q, "y", 1, 0) == 0 &&
	    told == 1); /* told once, and of a message in an empty queue */
	CHECK(mq_notify(q, &ev) == 0 && mq_send(q, "z", 1, 0) == 0 && told == 1);
	CHECK(mq_notify(q, NULL) == 0 && mq_receive(q, b, sizeof(b), NULL) == 1);
	signal(SIGUSR1, SIG_DFL);
	mq_close(q);
}

/* A queue without a descriptor was nearly made by a call that failed. */
static void no_number_makes_no_queue(void)
{
	struct rlimit old, few;
	int fd = dup(0);

	CHECK(getrlimit(RLIMIT_NOFILE, &old) == 0);
	few = (struct rlimit){ (rlim_t)fd, old.rlim_max };
	close(fd);
	CHECK(setrlimit(RLIMIT_NOFILE, &few) == 0);
	CHECK(mq_open("/quire4", O_RDWR | O_CREAT, 0600, NULL) == (mqd_t)-1 && errno == EMFILE);
	CHECK(setrlimit(RLIMIT_NOFILE, &old) == 0 && fails(mq_unlink("/quire4"), ENOENT));
}

const struct test message_tests[] = {
	T(messages_have_types, 1),
	T(message_queues_have_keys, 1),
	T(messages_are_waited_for, 1),
	T(messages_have_priorities, 1),
	T(posix_messages_are_waited_for, 1),
	T(messages_are_announced, 1),
	T(no_number_makes_no_queue, 1),
	{ NULL, NULL, 0 },
};
