/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The first process, which the command line names, and the kernel's threads that serve processes.
 *
 * Locks: none, as there is only one thread at this time.
 */
#include "kernel/proc/proc.h"

/*
 * Makes the first process; the calling thread fills it and acts for it until first_process_begins.
 */
static struct uthread *first_process_new(void)
{
	struct trapframe *tf;
	struct thread *t = arch_cur();
	struct uthread *u;
	struct proc *p;

	if ((p = proc_new(NULL)) == NULL || (p->p_files = files_new()) == NULL ||
	    (p->p_sighand = sighand_of(NULL, false)) == NULL || (u = uthread_new(p, &tf)) == NULL ||
	    as_alloc(the_vm, USER_MIN, user_top(), &p->p_as) != VM_OK)
		kpanic("no memory for the first program");
	init_proc = p;
	p->p_cwd = inode_hold(vfs_root);
	p->p_root = inode_hold(vfs_root);
	p->p_pid = p->p_pgid = p->p_sid = u->u_tid;
	all_procs = p;
	tty_set_foreground(p->p_pgid);
	uthread_enter(p, u);
	t->t_proc = p;
	t->t_user = u;
	return u;
}

static void first_process_begins(struct uthread *u)
{
	struct thread *t = arch_cur();

	u->u_thread->t_hat = as_hat(u->u_proc->p_as);
	arch_user_init(u->u_thread);
	t->t_proc = NULL;
	t->t_user = NULL;
	t->t_hat = NULL;
	arch_load_space(NULL);
	thread_go(u->u_thread);
}

static void open_console(struct proc *p)
{
	struct file *f;
	int err = vfs_open(NULL, "/dev/console", O_RDWR, 0, &f);

	if (err != 0)
		kpanic("/dev/console: error %d", -err);
	file_hold(f);
	file_hold(f);
	for (unsigned i = 0; i < 3; i++)
		(void)fd_install(p->p_files, f, 0, false);
}

#define INIT_ARGS 64u
/* The command line's init=, arg0=, arg1=, ...: ^ stands for a space. argv: room for INIT_ARGS + 2; words: for the whole line. */
static void init_arguments(char **argv, char *words)
{
	unsigned n = 0;

	if (!cmdline_get("init", words, ARCH_CMDLINE_MAX))
		strlcpy(words, "/sbin/init", ARCH_CMDLINE_MAX);
	argv[n++] = words;
	for (unsigned i = 0;; i++) {
		char key[8], *word = argv[n - 1] + strlen(argv[n - 1]) + 1;

		ksnprintf(key, sizeof(key), "arg%u", i);
		if (!cmdline_get(key, word, ARCH_CMDLINE_MAX - (size_t)(word - words)))
			break;
		if (i == INIT_ARGS)
			kpanic("the command line has more than %u words for the first program", i);
		for (char *c = word; *c != '\0'; c++)
			if (*c == '^')
				*c = ' ';
		argv[n++] = word;
	}
	argv[n] = NULL;
}

void proc_init(void)
{
	char *argv[INIT_ARGS + 2],
	    *words = kalloc(ARCH_CMDLINE_MAX),
	    *envp[6] = { "PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", "HOME=/root",
		    "TERM=vt100", "LANG=C.UTF-8", "PWD=/", NULL };
	struct uthread *u;
	struct thread *t;
	int err;

	mach_mutex_init(&proc_lock, 7, "processes");
	syscall_init();
	shm_init();
	sem_init();
	msg_init();
	mq_init();
	socket_init();
	epoll_init();
	u = first_process_new();
	open_console(u->u_proc);
	if (words == NULL)
		kpanic("no memory for the first program");
	init_arguments(argv, words);
	if ((err = proc_exec(argv[0], argv, envp)) != 0)
		kpanic("%s: error %d", argv[0], -err);
	kfree(words, ARCH_CMDLINE_MAX);
	first_process_begins(u);
	if ((t = thread_new(signal_loop, NULL, "signals")) != NULL)
		thread_go(t);
	timers_start();
	swapper_start();
}
