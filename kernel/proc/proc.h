/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Processes and their threads, signals, system calls. proc.c, signal.c and deliver.c have the theory.
 */
#ifndef QUIRE_KERNEL_PROC_H
#define QUIRE_KERNEL_PROC_H

#include "kernel/core/kernel.h"
#include "kernel/fs/vfs.h"
#include "kernel/proc/timer.h"

#define NSIG 64
#define SIGHUP 1
#define SIGINT 2
#define SIGILL 4
#define SIGABRT 6
#define SIGBUS 7
#define SIGFPE 8
#define SIGKILL 9
#define SIGSEGV 11
#define SIGPIPE 13
#define SIGALRM 14
#define SIGCHLD 17
#define SIGCONT 18
#define SIGSTOP 19
#define SIGTSTP 20
#define SIGTTIN 21
#define SIGTTOU 22
#define SIGURG 23
#define SIGWINCH 28
#define SIGBIT(n) (1ull << ((n)-1))

#define SA_NOCLDSTOP 1u
#define SA_NOCLDWAIT 2u
#define SA_SIGINFO 4u
#define SA_ONSTACK 0x08000000u
#define SS_ONSTACK 1
#define SS_DISABLE 2
#define SS_AUTODISARM 0x80000000u
#define MINSIGSTKSZ 2048u
#define SA_RESTART 0x10000000u
#define SA_NODEFER 0x40000000u
#define SA_RESETHAND 0x80000000u
#define SA_RESTORER 0x04000000u

struct sigaction { /* Linux's */
	uint64_t sa_handler, sa_flags, sa_restorer, sa_mask;
};
struct siginfo { /* Linux's, 128 bytes */
	int32_t si_signo, si_errno, si_code, si_pad;
	union {
		struct {
			int32_t pid, uid; /* of SI_TIMER: the timer and what it missed */
			union {
				int32_t status; /* SIGCHLD */
				uint64_t value; /* sigqueue's, a timer's */
			};
		} kill;
		uint64_t addr;
		uint8_t rest[112];
	};
};
_Static_assert(sizeof(struct siginfo) == 128, "Linux's");

/*
 * Signals on their way, with what came with each. One of each number is kept in s_info, more of a real-time signal
 * in s_queue, in order.
 */
#define SIGRTMIN 32
struct queued_signal;
struct sigset_info {
	_Atomic uint64_t s_pending; /* sched_lock to change */
	struct {
		int32_t code;
		uint64_t value; /* an address; else the sender, or a timer and its overrun */
		uint64_t more;  /* status or sigval */
	} s_info[NSIG];
	struct queued_signal *s_queue; /* sched_lock */
};

/* Open files of a process, shared by CLONE_FILES. */
struct files {
	_Atomic unsigned fs_refcnt;
	struct mach_mutex fs_lock;
	struct file **fs_file; /* fs_lock: [fs_n] */
	uint8_t *fs_cloexec;   /* fs_lock */
	unsigned fs_n;         /* fs_lock */
};

struct sighand { /* shared by CLONE_SIGHAND */
	_Atomic unsigned sh_refcnt;
	struct sigaction sh_action[NSIG + 1]; /* proc_lock */
};

#define RLIM_NLIMITS 16u
#define RLIM_INFINITY (~0ull)
struct rlimit {
	uint64_t cur, max;
};

struct uthread;
struct proc {
	int p_pid, p_pgid, p_sid;
	struct proc *p_parent;     /* proc_lock */
	struct proc *p_next;       /* proc_lock: all */
	struct uthread *p_threads; /* proc_lock */
	unsigned p_nthreads;       /* proc_lock */
	struct as *p_as;           /* own, or everybody stopped: a reference */
	bool p_borrowed;           /* p_as is the parent's until exec or exit (vfork) */
	struct files *p_files;
	struct sighand *p_sighand;
	struct inode *p_cwd;  /* proc_lock */
	struct inode *p_root; /* proc_lock: chroot's */
	char p_comm[16];      /* own */
	struct inode *p_exe;  /* proc_lock: the program's file; NULL: none */
	char *p_args;         /* own: the arguments, as /proc/pid/cmdline shows them */
	size_t p_argslen;
	struct sigset_info p_signals; /* sent to the process */
	struct waitq
	    p_wait; /* sched_lock: a child changed; waits for vfork's child, for exec's other threads */
	bool p_exiting; /* sched_lock: every thread ends */
	struct uthread
	    *p_execer;  /* sched_lock: the thread that execs: every other thread ends; NULL: none */
	bool p_zombie;  /* proc_lock: only the status of the process is left */
	bool p_vforked; /* sched_lock: the parent waits until the child execs or exits */
	_Atomic bool p_stopped; /* sched_lock */
	bool p_told_stop;       /* proc_lock: wait() has told of the stop */
	int p_stop_sig;         /* proc_lock: the signal that stopped the process */
	_Atomic bool
	    p_continued; /* SIGCONT made the process go on, and wait() has not told of that */
	bool
	    p_by_vfork; /* proc_lock: the vforking thread of the parent still reads this structure */
	struct waitq p_cont;
	int p_status; /* the status, as wait() gives it */
	int p_exit_signal;
	unsigned p_umask;
	struct rlimit p_rlim[RLIM_NLIMITS];
	struct timer p_itimer;   /* timer.c */
	struct ptimer *p_timers; /* ptimer_lock: timer_create's, by rising numbers */
	uint64_t p_cpu_ns,
	    p_child_ns; /* proc_lock: of threads that ended; of children waited for */
	vaddr_t p_stack_top, p_arg_start;
	uint64_t p_started;
};

/* A thread that waits for a word of memory: futex.c. It is not on the thread's stack, which may be swapped out. */
struct futex_key {
	uint64_t k_a, k_b;
};
struct futex_waiter {
	struct futex_key w_key;
	uint32_t w_bits;
	bool w_woken;
	struct futex_waiter *w_next;
	struct waitq w_wait;
};

struct uthread {
	int u_tid;
	struct proc *u_proc;
	struct thread *u_thread;
	struct uthread *u_next; /* proc_lock: of the process */
	struct trapframe *u_tf; /* own: the program's registers while the thread is in the kernel */
	uint64_t u_sigmask;     /* sched_lock to change */
	uint64_t
	    u_awaited; /* sched_lock: sigtimedwait asks for these: they are kept even if ignored */
	uint64_t
	    u_saved_mask; /* the thread's own: the mask to restore after a handler (sigsuspend, ppoll) */
	bool u_restore_mask;
	struct sigset_info u_signals;
	uint64_t u_altstack, u_altsize;
	uint32_t u_altflags;
	uint64_t u_clear_tid; /* CLONE_CHILD_CLEARTID */
	uint64_t u_robust;
	int64_t u_syscall; /* own: number of the system call under way; -1: none */
	uint64_t u_copy_fail;
	struct futex_waiter u_futex; /* sched_lock */
};

extern struct mach_mutex proc_lock; /* sleeps: the tree of processes */
extern struct proc *all_procs;      /* proc_lock */
extern struct proc *init_proc;      /* const: the first; NULL before it is made */
struct proc *this_proc(void);
struct uthread *this_uthread(void);
void proc_init(void);
struct proc *proc_find(int pid); /* proc_lock held; NULL */
bool uthread_must_end(
    const struct uthread *); /* the thread's process ends, or another of its threads execs */
struct uthread *uthread_find(int tid); /* proc_lock held */
_Noreturn void proc_exit(int status);  /* the whole process, as wait gives it */
_Noreturn void uthread_exit(int code); /* this thread */
void proc_free(struct proc *);         /* a zombie that was waited for; proc_lock held */
/* Structures of a new process, of which the caller fills the rest; and of a thread of a process, with its registers. NULL: no memory. */
struct proc *proc_new(struct proc *parent);
struct uthread *uthread_new(struct proc *, struct trapframe **);
void uthread_enter(struct proc *, struct uthread *); /* into the process's list; takes proc_lock */
int64_t proc_clone(uint64_t flags, uint64_t stack, uint64_t ptid, uint64_t ctid, uint64_t tls);
int proc_exec(
    const char *path, char **argv, char **envp); /* strings in kernel memory; argv ends with NULL */
void release_vfork(struct proc *);
/*
 * A reference to what is at *place, p_cwd, p_root or p_exe of a process; NULL: nothing. Another thread of the process may put
 * something else there at any moment, and drop what was there. Takes proc_lock.
 */
struct inode *proc_hold_inode(struct inode *const *place);
/* *place, p_cwd, p_root or p_exe of a process, becomes i (NULL: none), whose reference is taken over. Takes proc_lock; may sleep. */
void proc_set_inode(struct inode **place, struct inode *i);
/* Every thread of the process but the caller's is woken, also from a stop: it looks at what ends it. proc_lock and sched_lock held. */
void proc_wake_others(struct proc *);
int64_t proc_wait(int pid, uint64_t status, unsigned options, uint64_t rusage);
#define WNOHANG 1u
#define WUNTRACED 2u
#define WEXITED 4u
#define WCONTINUED 8u
#define WNOWAIT 0x01000000u
int64_t proc_wait_kernel(
    int pid, int *status, unsigned options); /* the pid, 0 (WNOHANG) or a negative error */
uint64_t proc_cpu_ns(
    struct proc *); /* ns of CPU that the process's threads have used; takes proc_lock */
struct files *files_new(void);
struct files *files_dup(struct files *);
void files_put(struct files *);
int fd_install(
    struct files *, struct file *, unsigned from, bool cloexec); /* takes over the reference */
struct file *fd_get(int fd);                                     /* a reference; NULL */
/* As fd_get, for a file with these operations. NULL: *err is -EBADF (there is no such descriptor) or other (the file has others). */
struct file *fd_get_kind(int fd, const struct file_ops *, int other, int64_t *err);
int fd_close(struct files *, int fd);
/* Is the descriptor closed by exec? set: 0 or 1: from now on; -1: only asked. Takes fs_lock. False: there is no such descriptor. */
bool fd_cloexec(struct files *, int fd, int set);
void files_close_on_exec(struct files *);

/* ---- signals: signal.c ---- */
/* The signal actions of a new process: parent's own (share), or a copy of them; parent NULL: none is set. A reference; NULL: no memory. */
struct sighand *sighand_of(struct proc *parent, bool share);
void sighand_put(struct sighand *); /* NULL: nothing */
void signal_send_thread(struct thread *, int sig, int code, uint64_t value);
void signal_send_uthread(struct uthread *, int sig, int code, uint64_t value);
void signal_send_proc(struct proc *, int sig, int code, uint64_t value);
/* The same with a value: sigqueue's, or SIGCHLD's status. */
void signal_queue_proc(struct proc *, int sig, int code, uint64_t value, uint64_t more);
void signal_queue_uthread(struct uthread *, int sig, int code, uint64_t value, uint64_t more);
/* The first pending signal of the set is taken: its number, or 0. sched_lock held. */
int signal_take(struct uthread *, uint64_t set, struct siginfo *);
/*
 * If the timer's signal (SI_TIMER) is pending there still, it has that much more overrun, and true is the answer. Takes
 * sched_lock; the owner of the set stays.
 */
bool signal_add_overrun(struct sigset_info *, int sig, uint32_t timer, uint64_t times);
/* The thread's signal mask is the one at maskp until the call ends; 0: it stays. trap_leave restores it. */
void signal_mask_begin(uint64_t maskp, uint64_t size);
extern unsigned
    signal_files; /* atomic: open signalfds; threads that wait for a signalfd are in poll_queue */
void signal_discard(struct sigset_info *); /* all that is pending; their owner ends */
void signal_forget(
    struct proc *, int sig); /* drops the pending signals of a number that is ignored now */
bool proc_ignores_children(
    const struct proc *); /* the status of its children is not kept; proc_lock held */
void signal_interrupt_group(int pgid, int sig);      /* from an interrupt: is sent soon */
void signal_force(int sig, int code, uint64_t addr); /* this thread's own fault */
void signal_loop(void *); /* the thread that sends signals that interrupts asked for */
struct sigstack {         /* stack_t */
	uint64_t sp;
	int32_t flags, pad;
	uint64_t size;
};
/* Where a handler's frame goes, below which address: of the alternate stack, if the action asks for it and sp is not on it; else
 * sp less the red zone. And what the frame tells of the alternate stack: *told. */
uint64_t signal_stack(
    const struct sigaction *, uint64_t sp, uint64_t red_zone, struct sigstack *told);
/* What sigaltstack answers, and does, for a thread whose stack pointer is sp. Set: -EPERM (on that stack), -EINVAL, -ENOMEM (too small). */
void signal_get_altstack(const struct uthread *, uint64_t sp, struct sigstack *);
int signal_set_altstack(struct uthread *, uint64_t sp, const struct sigstack *);
/* The thread goes back to what its signal's frame says. */
void signal_restore(uint64_t mask, const struct sigstack *);
int arch_signal_frame(struct trapframe *, int sig, const struct siginfo *, const struct sigaction *,
    uint64_t oldmask);
int64_t arch_sigreturn(struct trapframe *);

/* ---- user memory: sys/copy.c, but for fault_in ---- */
#define USER_MIN 0x10000ull
/* Where the addresses of a program end: the last page is none. */
static inline vaddr_t user_top(void)
{
	return mach_caps(arch_machine())->mc_user_max - VM_PAGESIZE;
}
int copy_in(void *to, uint64_t from, uint64_t len); /* 0 or -EFAULT */
int copy_out(uint64_t to, const void *from, uint64_t len);
/* as_fault, that waits for memory: what was reserved comes. sys/table.c */
enum vm_err fault_in(struct as *, vaddr_t, enum fault_type, enum seg_rw);
int64_t copy_in_string(
    char *to, uint64_t from, uint64_t room); /* bytes without the 0; -ENAMETOOLONG */

/* Nanoseconds of a struct timespec of the program's, as span_ns gives them. 0, -EFAULT, -EINVAL: it is no span of time. */
int copy_in_span(uint64_t from, uint64_t *ns);
/* Kernel memory through which up to `most` bytes are copied, in pieces of *room (less if memory is short); kfree. NULL: none. */
char *bounce_alloc(uint64_t most, uint64_t *room);

/* ---- whole processes: swapper.c ---- */
struct swapper_counters {
	uint64_t sc_processes, sc_pages, sc_stacks_out, sc_stacks_in;
};
void swapper_counters(struct swapper_counters *);
void swapper_start(void);

/* ---- futexes: futex.c ---- */
int64_t futex_call(
    uint64_t addr, unsigned op, uint32_t val, uint64_t timeout, uint64_t addr2, uint32_t val3);
int futex_wake_addr(uint64_t addr, int n);
void futex_exit_robust(struct uthread *);

int path_find(uint64_t dirfd, uint64_t path, unsigned flags,
    struct inode **); /* as fstatat's arguments; sys/path.c */
void shm_init(void);
void socket_init(void);
uint64_t wall_ns(void); /* since 1970 */
/* Nanoseconds of a span of time. More than a century is as good as for ever, and what it is added to does not overflow. */
#define SPAN_MAX 4000000000ull /* seconds */
static inline uint64_t span_ns(uint64_t seconds, uint64_t ns)
{
	return (seconds < SPAN_MAX ? seconds : SPAN_MAX) * 1000000000 + ns;
}
extern const struct vnode_ops none_vnode_ops, kept_vnode_ops;
struct inode *anon_inode(const struct inode_ops *, unsigned mode);
void syscall_report(void);
void syscall_init(void);
#endif
