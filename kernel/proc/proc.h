/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Processes and their threads, signals, system calls. proc.c, signal.c and deliver.c have the theory.
 */
#ifndef QUIRE_KERNEL_PROC_H
#define QUIRE_KERNEL_PROC_H

#include "kernel/core/kernel.h"
#include "kernel/proc/cred.h"
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
#define SIGVTALRM 26
#define SIGPROF 27
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
			int32_t pid, uid; /* of SI_TIMER: the timer and its overrun */
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
 * Pending signals, each with its data. s_info has one of each number, s_queue further ones of
 * real-time signals, in order.
 */
#define SIGRTMIN 32
struct queued_signal;
struct sigset_info {
	_Atomic uint64_t s_pending; /* sched_lock to change */
	struct {
		int32_t code;
		uint64_t value; /* the fault's address; or the sender, or a timer and its overrun */
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
	/* changed by the process's own thread, or while all threads are stopped: a reference */
	struct as *p_as;
	bool p_borrowed;       /* p_as is the parent's until exec or exit (vfork) */
	struct files *p_files; /* proc_lock to change, or to read another process's */
	struct sighand *p_sighand;
	struct inode *p_cwd;  /* proc_lock */
	struct inode *p_root; /* proc_lock: chroot's */
	char p_comm[16];      /* own */
	struct inode *p_exe;  /* proc_lock: the program's file; NULL: none */
	/* changed by the process itself: the arguments, as /proc/pid/cmdline shows them */
	char *p_args;
	size_t p_argslen;
	struct sigset_info p_signals; /* sent to the process */
	struct waitq
	    p_wait; /* sched_lock: a child changed; waits for vfork's child, for exec's other threads */
	bool p_exiting; /* sched_lock: every thread must end */
	struct uthread
	    *p_execer;  /* sched_lock: the thread that execs: every other thread ends; NULL: none */
	bool p_zombie;  /* proc_lock: only the status of the process is left */
	bool p_vforked; /* sched_lock: the parent waits until the child execs or exits */
	_Atomic bool p_stopped; /* sched_lock */
	/*
	 * sched_lock: a thread has taken a signal that stops the process and is about to stop it;
	 * SIGCONT and SIGKILL cancel that
	 */
	bool p_stopping;
	bool p_told_stop; /* proc_lock: wait() has reported the stop */
	int p_stop_sig;   /* proc_lock: the signal that stopped the process */
	_Atomic bool
	    p_continued; /* SIGCONT continued the process, and wait() has not reported that yet */
	bool
	    p_by_vfork; /* proc_lock: the vforking thread of the parent still reads this structure */
	struct waitq p_cont;
	int p_status; /* the status, as wait() returns it */
	int p_exit_signal;
	unsigned p_umask;
	struct cred p_cred; /* cred.h */
	struct rlimit p_rlim[RLIM_NLIMITS];
	struct itimer p_itimers[ITIMERS]; /* timer.c */
	struct ptimer *p_timers; /* ptimer_lock: timers of timer_create, by rising numbers */
	uint64_t p_cpu_ns,
	    p_child_ns; /* proc_lock: CPU time of ended threads; of children waited for */
	vaddr_t p_stack_top, p_arg_start;
	uint64_t p_started;
};

/*
 * A thread that waits for a word of memory: futex.c. The structure is not on the thread's stack,
 * which may be swapped out.
 */
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

/* A refusal for tests, in the thread's next system call: sys/inject.c. */
struct inject {
	uint32_t in_kind; /* enum vm_inject */
	uint64_t in_nth;  /* the number of the attempt that is refused; 0: none */
	uint64_t in_seen; /* the number of attempts that the last such call made */
};

struct uthread {
	int u_tid;
	struct proc *u_proc;
	struct thread *u_thread;
	struct uthread *u_next; /* proc_lock: of the process */
	/* only its own thread: the program's registers while the thread is in the kernel */
	struct trapframe *u_tf;
	uint64_t u_sigmask; /* sched_lock to change */
	/*
	 * sched_lock: the signals that sigtimedwait waits for; they are kept pending even if
	 * ignored
	 */
	uint64_t u_awaited;
	uint64_t
	    u_saved_mask; /* the thread's own: the mask to restore after a handler (sigsuspend, ppoll) */
	bool u_restore_mask;
	struct sigset_info u_signals;
	uint64_t u_altstack, u_altsize;
	uint32_t u_altflags;
	bool
	    u_restartable; /* own: the call under way is made again after a handler with SA_RESTART */
	uint64_t u_sleep_until; /* own: the end of a sleep that goes on, by arch_time_ns; 0: none */
	int u_policy, u_prio, u_nice; /* proc_lock: kept and told, without effect */
	uint64_t u_clear_tid;         /* CLONE_CHILD_CLEARTID */
	uint64_t u_robust;
	int64_t u_syscall; /* only its own thread: number of the system call under way; -1: none */
	uint64_t u_copy_fail;
	struct inject u_inject; /* own: sys/inject.c */
	unsigned u_epolls; /* own: epolls that the thread looks at, one from within the other */
	struct futex_waiter u_futex; /* sched_lock */
};

extern struct mach_mutex proc_lock; /* sleeps: guards the tree of processes */
extern struct proc *all_procs;      /* proc_lock */
extern struct proc *init_proc;      /* const: the first process; NULL before it is made */
struct proc *this_proc(void);
struct uthread *this_uthread(void);
void proc_init(void);
struct proc *proc_find(int pid); /* proc_lock held; NULL */
/* does the thread's process end, or does another of its threads exec? */
bool uthread_must_end(const struct uthread *);
struct uthread *uthread_find(int tid); /* proc_lock held */
_Noreturn void proc_exit(int status);  /* ends the whole process; status as wait() returns it */
/*
 * Ends the first process with status 0, and so all others and the system, soon after the return.
 * Must not be called with proc_lock held; may sleep.
 */
void proc_end_system(void);
_Noreturn void uthread_exit(int code); /* this thread */
void proc_free(struct proc *);         /* frees a zombie that was waited for; proc_lock held */
/*
 * Make the structure of a new process, which the caller completes; and of a thread of a process,
 * with its registers. NULL: no memory.
 */
struct proc *proc_new(struct proc *parent);
struct uthread *uthread_new(struct proc *, struct trapframe **);
/* adds the thread to the process's list; takes proc_lock */
void uthread_enter(struct proc *, struct uthread *);
int64_t proc_clone(uint64_t flags, uint64_t stack, uint64_t ptid, uint64_t ctid, uint64_t tls);
int proc_exec(
    const char *path, char **argv, char **envp); /* strings in kernel memory; argv ends with NULL */
void release_vfork(struct proc *);
/*
 * Returns a reference to the inode at *place, which is p_cwd, p_root or p_exe of a process; NULL:
 * none. Another thread of the process may replace the inode at any moment, and drop its reference.
 * Takes proc_lock.
 */
struct inode *proc_hold_inode(struct inode *const *place);
/*
 * *Sets *place, which is p_cwd, p_root or p_exe of a process, to i (NULL: none), whose reference is
 * taken over. Takes proc_lock; may sleep.
 */
void proc_set_inode(struct inode **place, struct inode *i);
/*
 * Wakes every thread of the process but the caller, also from a stop, so that it sees that it must
 * end. proc_lock and sched_lock held.
 */
void proc_wake_others(struct proc *);
int64_t proc_wait(int pid, uint64_t status, unsigned options, uint64_t rusage);
#define WNOHANG 1u
#define WUNTRACED 2u
#define WEXITED 4u
#define WCONTINUED 8u
#define WNOWAIT 0x01000000u
int64_t proc_wait_kernel(
    int pid, int *status, unsigned options); /* the pid, 0 (WNOHANG) or a negative error */
uint64_t proc_cpu_ns(struct proc *); /* CPU time of the process's threads in ns; takes proc_lock */
/*
 * Reads a negative number of a clock: the CPU time of process *pid, or of its thread *tid (0: of the whole process). false: such a
 * number means no clock of CPU time. The process or the thread need not exist.
 */
bool cpu_clock_find(int number, int *pid, int *tid);
/* The clock's time; false: there is no such process, or the process has no such thread. Takes proc_lock. */
bool cpu_clock_ns(int pid, int tid, uint64_t *ns);
struct files *files_new(void);
struct files *files_dup(struct files *);
void files_put(struct files *);
#define FILES_MOST (1u << 20) /* the largest RLIMIT_NOFILE */
struct file *files_get(
    struct files *, int fd); /* a reference; NULL: the number means no file. Takes fs_lock */
int files_next(struct files *,
    unsigned from); /* the first number from there on that means a file; -1: none. Takes fs_lock */
/* A reference to the table of a process, for files_put; NULL: there is no such process, or it has ended. Takes proc_lock. */
struct files *proc_hold_files(int pid);
/* The table of a process becomes fs (NULL: none), whose reference is taken over. Takes proc_lock; may sleep. */
void proc_set_files(struct proc *, struct files *fs);
/*
 * Takes the first free number from there on, for fd_fill: until then it means no file. -EMFILE, -ENOMEM.
 * fd_fill takes over the reference; f NULL: the number is free again.
 */
int fd_take(struct files *, unsigned from);
void fd_fill(struct files *, int fd, struct file *f, bool cloexec);
int fd_install(
    struct files *, struct file *, unsigned from, bool cloexec); /* takes over the reference */
struct file *fd_get(int fd);                                     /* a reference; NULL */
/* The same, but NULL, too, for a file that was opened for its name alone (O_PATH). */
struct file *fd_get_open(int fd);
/*
 * As fd_get, for a file with these operations. NULL: *err is -EBADF (there is no such descriptor)
 * or `other` (the file has other operations).
 */
struct file *fd_get_kind(int fd, const struct file_ops *, int other, int64_t *err);
/* The number means f from now on, whose reference is taken over; no other thread sees the number free between. fd, -EBADF, -EBUSY (another thread has taken the number for a file that it opens) or -ENOMEM. */
int fd_replace(struct files *, struct file *f, unsigned fd, bool cloexec);
int fd_close(struct files *, int fd);
/*
 * Gets or sets whether exec closes the descriptor. set: 0 or 1: the new value; -1: only get. Takes
 * fs_lock. False: there is no such descriptor.
 */
bool fd_cloexec(struct files *, int fd, int set);
void files_close_on_exec(struct files *);

/* ---- signals: signal.c ---- */
/*
 * Returns the signal actions of a new process: the parent's (share) or a copy; parent NULL: default
 * actions. A reference; NULL: no memory.
 */
struct sighand *sighand_of(struct proc *parent, bool share);
void sighand_put(struct sighand *); /* NULL: nothing */
void signal_send_thread(struct thread *, int sig, int code, uint64_t value);
void signal_send_uthread(struct uthread *, int sig, int code, uint64_t value);
void signal_send_proc(struct proc *, int sig, int code, uint64_t value);
/* The same with a value, as sigqueue has, or with SIGCHLD's status. */
void signal_queue_proc(struct proc *, int sig, int code, uint64_t value, uint64_t more);
void signal_queue_uthread(struct uthread *, int sig, int code, uint64_t value, uint64_t more);
/* Takes the first pending signal of the set and returns its number, or 0. sched_lock held. */
int signal_take(struct uthread *, uint64_t set, struct siginfo *);
/*
 * If the timer's signal (SI_TIMER) is still pending there, adds n to its overrun and returns true.
 * Takes sched_lock; the owner of the set must not end.
 */
bool signal_add_overrun(struct sigset_info *, int sig, uint32_t timer, uint64_t times);
/*
 * Sets the thread's signal mask to the mask at maskp until the call ends; 0: the mask stays.
 * trap_leave restores the former mask.
 */
void signal_mask_begin(uint64_t maskp, uint64_t size);
extern unsigned
    signal_files; /* atomic: open signalfds; threads that wait for a signalfd are in poll_queue */
void signal_discard(struct sigset_info *); /* drops all pending signals of an owner that ends */
void signal_forget(
    struct proc *, int sig); /* drops the pending signals of a number that is ignored now */
bool proc_ignores_children(
    const struct proc *); /* is the status of the process's children dropped? proc_lock held */
/* called in an interrupt: a thread sends the signal soon */
void signal_interrupt_group(int pgid, int sig);
/* sends a signal for this thread's own fault */
void signal_force(int sig, int code, uint64_t addr);
void signal_loop(void *); /* the body of the thread that sends signals for interrupts */
struct sigstack {         /* stack_t */
	uint64_t sp;
	int32_t flags, pad;
	uint64_t size;
};
/*
 * Returns the address below which a handler's frame lies: the end of the alternate stack, if the
 * action uses it and sp is not on it; else sp less the red zone. *told: the state of the alternate
 * stack, for the frame.
 */
uint64_t signal_stack(
    const struct sigaction *, uint64_t sp, uint64_t red_zone, struct sigstack *told);
/* A handler begins: an alternate stack with SS_AUTODISARM is no longer the thread's. */
void signal_disarm_altstack(struct uthread *);
/*
 * Does sigaltstack for a thread with stack pointer sp. With a new stack: -EPERM (the thread is on
 * the alternate stack), -EINVAL, -ENOMEM (too small).
 */
void signal_get_altstack(const struct uthread *, uint64_t sp, struct sigstack *);
int signal_set_altstack(struct uthread *, uint64_t sp, const struct sigstack *);
/* Restores the thread's state from its signal frame. */
void signal_restore(uint64_t mask, const struct sigstack *);
int arch_signal_frame(struct trapframe *, int sig, const struct siginfo *, const struct sigaction *,
    uint64_t oldmask);
int64_t arch_sigreturn(struct trapframe *);

/* ---- user memory: sys/copy.c, except fault_in ---- */
#define USER_MIN 0x10000ull
/* The end of a program's addresses; the last page is excluded. */
static inline vaddr_t user_top(void)
{
	return mach_caps(arch_machine())->mc_user_max - VM_PAGESIZE;
}
int copy_in(void *to, uint64_t from, uint64_t len); /* 0 or -EFAULT */
int copy_out(uint64_t to, const void *from, uint64_t len);
/* as_fault that waits for memory, as reserved memory will become free. sys/table.c */
enum vm_err fault_in(struct as *, vaddr_t, enum fault_type, enum seg_rw);
int64_t copy_in_string(
    char *to, uint64_t from, uint64_t room); /* bytes without the terminating 0; or -ENAMETOOLONG */

/*
 * Reads a struct timespec of the program as nanoseconds, like span_ns. 0, -EFAULT, -EINVAL: it is
 * no span of time.
 */
int copy_in_span(uint64_t from, uint64_t *ns);
/*
 * Allocates kernel memory for copying up to `most` bytes, in pieces of *room (less if memory is
 * short); to be freed by kfree. NULL: none.
 */
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
    struct inode **); /* the arguments are fstatat's; sys/path.c */
void shm_init(void);
void sem_init(void);
void msg_init(void);
void mq_init(void);
void sem_exit(const struct proc *);
void socket_init(void);
void epoll_init(void);
uint64_t wall_ns(void);          /* since 1970 */
uint64_t wall_base(void);        /* wall_ns() less arch_time_ns() */
void wall_base_set(uint64_t ns); /* timer.c's: timer_lock held */
/*
 * Nanoseconds of a span of time, at most a century, so that adding it to a time does not overflow.
 */
#define SPAN_MAX 4000000000ull /* seconds */
static inline uint64_t span_ns(uint64_t seconds, uint64_t ns)
{
	return (seconds < SPAN_MAX ? seconds : SPAN_MAX) * 1000000000 + ns;
}
extern const struct vnode_ops none_vnode_ops, kept_vnode_ops;
struct inode *anon_inode(const struct inode_ops *, unsigned mode);
void syscall_report(void);
/*
 * The refusal that the thread has asked for takes effect, and ends: sys/inject.c. begin returns
 * whether there is one, for end.
 */
bool inject_begin(struct uthread *);
void inject_end(struct uthread *);
#define PR_INJECT 0x51495231u /* prctl's */
int64_t inject_ask(uint64_t kind, uint64_t nth);
void syscall_init(void);
#endif
