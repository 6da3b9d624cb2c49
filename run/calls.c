/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The table of calls. The table has each system call that changes mappings, protection, locks on
 * memory, or what a child or a core file gets, together with the runtime's action. A call that is
 * not in the table at most reads and writes memory, and such an access faults like any other.
 *
 * Three readers: sites.c patches the places of the C library that make a call marked SITE;
 * syscall() of intercept.c sends SITE and NUMBER the same way; intercept() there has one case for
 * each of these calls.
 *
 * Locks: none, everything is constant.
 */
#include "run/calls.h"

#include "run/creds.h"

#include <sys/syscall.h>

const struct call calls[] = {
	/* ---- mappings ---- */
	{ SYS_mmap, CALL_SITE, "mmap",
	    "private anonymous memory that is not executable is tracked; for write-only memory the "
	    "kernel is given read-write, "
	    "as the processor has nothing less. Shared memory, files, MAP_GROWSDOWN, MAP_HUGETLB, "
	    "MAP_LOCKED and "
	    "executable memory stay the kernel's" },
	{ SYS_munmap, CALL_SITE, "munmap",
	    "forgets what is tracked, unless the kernel will refuse (sealed memory)" },
	{ SYS_mremap, CALL_SITE, "mremap",
	    "moves the tracked segment; whatever the engine cannot move becomes the kernel's "
	    "first" },
	{ SYS_brk, CALL_SITE, "brk", "the heap is tracked" },
	{ SYS_remap_file_pages, CALL_KERNEL, "remap_file_pages",
	    "works on shared memory only, which is never tracked; private memory is refused with"
	    " EINVAL" },
	{ SYS_shmat, CALL_SITE, "shmat",
	    "with SHM_REMAP it replaces what is tracked; otherwise it is an own mapping of the "
	    "kernel's" },
	{ SYS_shmdt, CALL_KERNEL, "shmdt", "unmaps shared memory only" },
	{ NR_map_shadow_stack, CALL_KERNEL, "map_shadow_stack",
	    "an own mapping of the kernel's, never over another" },
	{ SYS_memfd_create, CALL_KERNEL, "memfd_create",
	    "makes a file; its mappings are the kernel's" },
	{ SYS_userfaultfd, CALL_KERNEL, "userfaultfd",
	    "makes a descriptor; the ioctl that registers memory is what matters" },
	{ SYS_ioctl, CALL_SITE, "ioctl(UFFDIO_REGISTER)",
	    "the program serves this range by itself: it becomes the kernel's, and so does what UFFDIO_MOVE moves" },
	/* ---- protection ---- */
	{ SYS_mprotect, CALL_SITE, "mprotect",
	    "excludes loads of the range. PROT_NONE takes the pages out; read-only memory stays "
	    "tracked; "
	    "executable memory becomes the kernel's" },
	{ SYS_pkey_mprotect, CALL_SITE, "pkey_mprotect",
	    "with a key the range becomes the kernel's: the threads that move pages have not the"
	    " program's rights to the key" },
	{ SYS_pkey_alloc, CALL_KERNEL, "pkey_alloc",
	    "names a key; memory gets it by pkey_mprotect" },
	{ SYS_pkey_free, CALL_KERNEL, "pkey_free", "see pkey_alloc" },
	{ NR_mseal, CALL_SITE, "mseal",
	    "the range becomes the kernel's, which refuses every change; no call may half undo "
	    "it before" },
	/* ---- advice ---- */
	{ SYS_madvise, CALL_SITE, "madvise", "each advice has its line in advise.c" },
	{ NR_process_madvise, CALL_SITE, "process_madvise",
	    "on the process itself as madvise of each piece; what the kernel allows on others drops"
	    " nothing (COLD, PAGEOUT, "
	    "WILLNEED, COLLAPSE)" },
	{ NR_process_mrelease, CALL_KERNEL, "process_mrelease",
	    "only of a process that is being killed" },
	{ SYS_msync, CALL_KERNEL, "msync",
	    "anonymous memory has nothing to write back; holes and errors are the kernel's own" },
	{ NR_cachestat, CALL_KERNEL, "cachestat", "asks about files" },
	{ SYS_mincore, CALL_SITE, "mincore",
	    "pages that are out of their place but in memory count as present" },
	/* ---- locks ---- */
	{ SYS_mlock, CALL_SITE, "mlock",
	    "the kernel checks limits and counts, the engine keeps the pages in memory" },
	{ SYS_mlock2, CALL_SITE, "mlock2", "as mlock" },
	{ SYS_munlock, CALL_SITE, "munlock", "as mlock" },
	{ SYS_mlockall, CALL_SITE, "mlockall",
	    "what is hosted is locked as by mlock; the kernel's own would lock the frames of the engine, too" },
	{ SYS_munlockall, CALL_SITE, "munlockall", "as mlock" },
	/* ---- where memory lies ---- */
	{ SYS_mbind, CALL_KERNEL, "mbind",
	    "places pages of the kernel's; contents and addresses stay" },
	{ SYS_set_mempolicy, CALL_KERNEL, "set_mempolicy", "as mbind" },
	{ SYS_get_mempolicy, CALL_KERNEL, "get_mempolicy", "asks" },
	{ SYS_migrate_pages, CALL_KERNEL, "migrate_pages",
	    "moves frames; contents and addresses stay" },
	{ SYS_move_pages, CALL_KERNEL, "move_pages", "as migrate_pages" },
	{ NR_set_mempolicy_home_node, CALL_KERNEL, "set_mempolicy_home_node", "as mbind" },
	/* ---- processes and threads ---- */
	{ SYS_clone, CALL_SITE, "clone",
	    "a child with memory of its own is charged for and joins the family" },
	{ SYS_clone3, CALL_NUMBER, "clone3", "as clone; the C library makes only threads by it" },
	{ SYS_fork, CALL_SITE, "fork", "as clone" },
	{ SYS_vfork, CALL_KERNEL, "vfork",
	    "the child borrows the memory until it executes a program" },
	{ SYS_execve, CALL_SITE, "execve",
	    "the new program is hosted: the environment gets the family's variables" },
	{ SYS_execveat, CALL_SITE, "execveat", "as execve" },
	{ SYS_exit, CALL_SITE, "exit",
	    "the last thread of the program ends the process; robust locks and the word that a join "
	    "waits for are looked after before, as the kernel serves no fault then (thread_end.c)" },
	{ SYS_unshare, CALL_SITE, "unshare",
	    "what a process with several threads may not: the service thread steps aside" },
	{ SYS_setns, CALL_SITE, "setns", "as unshare" },
	{ SYS_set_robust_list, CALL_SITE, "set_robust_list",
	    "changes nothing: a new thread says that it is there" },
	{ SYS_sched_getaffinity, CALL_SITE, "sched_getaffinity",
	    "the program's own mask, while a thread is bound" },
	{ SYS_sched_setaffinity, CALL_SITE, "sched_setaffinity",
	    "the program places its threads itself from now on" },
	{ SYS_prctl, CALL_NUMBER, "prctl",
	    "a filter of system calls ends hosting; PR_SET_MM may have moved the break. "
	    "PR_SET_VMA names mappings only" },
	{ SYS_seccomp, CALL_NUMBER, "seccomp", "a filter of system calls ends hosting" },
	{ SYS_setrlimit, CALL_NUMBER, "setrlimit",
	    "AS and DATA: the kernel is given the runtime's part besides (limits.c)" },
	{ SYS_getrlimit, CALL_NUMBER, "getrlimit", "AS and DATA: what the program set" },
	{ SYS_prlimit64, CALL_NUMBER, "prlimit64",
	    "as setrlimit and getrlimit; of another process it is the kernel's" },
	{ SYS_futex, CALL_NUMBER, "futex",
	    "an operation in which the kernel changes the word serves no fault: the word is brought to memory. The C library makes such "
	    "calls only for a mutex that it has just touched" },
	{ SYS_process_vm_readv, CALL_KERNEL, "process_vm_readv",
	    "an access: it faults as any other" },
	{ SYS_process_vm_writev, CALL_KERNEL, "process_vm_writev",
	    "an access: it faults as any other" },
	/* ---- rights: a process that gives some up moves to another store (creds.c) ---- */
	{ SYS_setuid, CALL_NUMBER, "setuid",
	    "the C library's function is interposed, and so for the next six" },
	{ SYS_setgid, CALL_NUMBER, "setgid", "as setuid" },
	{ SYS_setreuid, CALL_NUMBER, "setreuid", "as setuid" },
	{ SYS_setregid, CALL_NUMBER, "setregid", "as setuid" },
	{ SYS_setresuid, CALL_NUMBER, "setresuid", "as setuid" },
	{ SYS_setresgid, CALL_NUMBER, "setresgid", "as setuid" },
	{ SYS_capset, CALL_NUMBER, "capset", "as setuid" },
	{ NR_landlock_restrict_self, CALL_NUMBER, "landlock_restrict_self",
	    "as setuid; the C library has none" },
	/* ---- descriptors: the runtime's look closed to the program ---- */
	{ SYS_close, CALL_NUMBER, "close", "ours look closed" },
	{ SYS_dup2, CALL_NUMBER, "dup2", "ours look closed" },
	{ SYS_dup3, CALL_NUMBER, "dup3", "ours look closed" },
	{ SYS_close_range, CALL_NUMBER, "close_range", "leaves ours out" },
};
const size_t calls_n = sizeof calls / sizeof *calls;

bool calls_at_site(uint32_t nr)
{
	for (size_t i = 0; i < calls_n; i++)
		if (calls[i].c_nr == nr)
			return calls[i].c_way == CALL_SITE;
	return false;
}

void calls_bits(uint64_t bits[CALLS_WORDS])
{
	for (size_t i = 0; i < calls_n; i++)
		if (calls[i].c_way != CALL_KERNEL)
			bits[calls[i].c_nr / 64] |= 1ull << (calls[i].c_nr % 64);
}
