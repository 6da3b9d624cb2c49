/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * execve: an ELF program, static or with its loader, becomes a new address space.
 *
 * Every part of the file is a private mapping of its vnode, so text and unwritten data are pages of the page cache, one set
 * for all processes. The new space is made beside the old one and takes its place only when everything is mapped; until then an
 * error leaves the process as it was.
 *
 * Places: position-independent programs at two thirds of the addresses plus a random number of
 * pages, the stack at a random place near the top, mmap's area below the room that the stack may
 * grow into. random_next gives the random numbers.
 *
 * Locks: none while the new space is made, which no other thread sees. proc_lock when the new space
 * replaces the old one, as other threads read p_as; proc_lock and sched_lock to wake the process's
 * other threads, which then exit.
 */
#include "kernel/proc/proc.h"
#include "kernel/sys/mem.h"

#define ET_EXEC 2u
#define ET_DYN 3u
#define PT_LOAD 1u
#define PT_INTERP 3u
#define PT_GNU_STACK 0x6474e551u
#define MAXPHDRS 32u
#define STACK_FIRST (128ull << 10)
#define STACK_GUARD (1ull << 20)
#define ARGS_MAX (512u << 10)

struct ehdr {
	uint8_t e_ident[16];
	uint16_t e_type, e_machine;
	uint32_t e_version;
	uint64_t e_entry, e_phoff, e_shoff;
	uint32_t e_flags;
	uint16_t e_ehsize, e_phentsize, e_phnum, e_shentsize, e_shnum, e_shstrndx;
};
struct phdr {
	uint32_t p_type, p_flags;
	uint64_t p_offset, p_vaddr, p_paddr, p_filesz, p_memsz, p_align;
};

static vaddr_t pie_base(void) { return vm_page_trunc(user_top() / 3 * 2); }

/* One ELF file being mapped. */
struct image {
	struct inode *i_inode;
	struct ehdr i_eh;
	struct phdr i_ph[MAXPHDRS];
	char i_interp[256];
	/*
	 * difference between addresses in memory and in the file; highest address; address of the
	 * mapped headers
	 */
	uint64_t i_bias, i_end, i_phdr;
	uint32_t i_euid, i_egid; /* the program's, by the file's mode */
};

static int read_at(struct inode *i, uint64_t off, void *buf, uint64_t len)
{
	uint64_t done = 0;
	enum vm_err e = vnode_read(&i->i_vnode, off, buf, len, &done);

	if (done == len)
		return 0;
	return e == VM_EOF ? -ENOEXEC : err_of(e);
}

static int image_read(struct image *im)
{
	int err = read_at(im->i_inode, 0, &im->i_eh, sizeof(im->i_eh));

	if (err != 0)
		return err;
	if (memcmp(im->i_eh.e_ident, "\177ELF\2\1", 6) != 0 ||
	    im->i_eh.e_machine != ARCH_ELF_MACHINE ||
	    (im->i_eh.e_type != ET_EXEC && im->i_eh.e_type != ET_DYN) ||
	    im->i_eh.e_phentsize != sizeof(struct phdr) || im->i_eh.e_phnum == 0 ||
	    im->i_eh.e_phnum > MAXPHDRS)
		return -ENOEXEC;
	if ((err = read_at(im->i_inode, im->i_eh.e_phoff, im->i_ph,
		 im->i_eh.e_phnum * sizeof(struct phdr))) != 0)
		return err;
	for (unsigned i = 0; i < im->i_eh.e_phnum; i++) {
		const struct phdr *p = &im->i_ph[i];

		if (p->p_type != PT_INTERP)
			continue;
		if (p->p_filesz == 0 || p->p_filesz > sizeof(im->i_interp))
			return -ENOEXEC;
		if ((err = read_at(im->i_inode, p->p_offset, im->i_interp, p->p_filesz)) != 0)
			return err;
		im->i_interp[p->p_filesz - 1] = '\0';
	}
	return 0;
}

static unsigned prot_of(uint32_t flags)
{
	return (flags & 4 ? PROT_R : 0) | (flags & 2 ? PROT_W : 0) | (flags & 1 ? PROT_X : 0);
}

static enum vm_err map_anon(struct as *as, vaddr_t from, vaddr_t to, unsigned prot)
{
	struct segvn_args a = { .sa_prot = prot, .sa_maxprot = PROT_R | PROT_W | PROT_X };

	return from >= to ? VM_OK : as_map(as, from, to - from, segvn_create, &a);
}

static enum vm_err map_part(struct as *as, struct image *im, const struct phdr *p)
{
	struct segvn_args a = { .sa_vnode = &im->i_inode->i_vnode,
		.sa_off = vm_page_trunc(p->p_offset),
		.sa_prot = prot_of(p->p_flags),
		.sa_maxprot = PROT_R | PROT_W | PROT_X };
	vaddr_t va = im->i_bias + p->p_vaddr, base = vm_page_trunc(va), fend = va + p->p_filesz,
		end = va + p->p_memsz;
	enum vm_err e = VM_OK;

	if (((p->p_vaddr ^ p->p_offset) & VM_PAGEMASK) != 0 || p->p_filesz > p->p_memsz ||
	    end < va || end > user_top())
		return VM_INVAL;
	if (p->p_filesz > 0)
		e = as_map(as, base, vm_page_round(fend) - base, segvn_create, &a);
	else
		fend = base;
	if (e == VM_OK)
		e = map_anon(as, vm_page_round(fend), vm_page_round(end), a.sa_prot);
	if (e == VM_OK && p->p_filesz > 0 && end > fend && (fend & VM_PAGEMASK) != 0 &&
	    (a.sa_prot & PROT_W)) {
		uint64_t n = VM_PAGESIZE - (fend & VM_PAGEMASK);
		char *zeroes = kzalloc(VM_PAGESIZE);

		/*
		 * zeroes to the page's end: loaders use the memory behind their data as zeroed
		 * memory
		 */
		e = zeroes == NULL ? VM_NOMEM : as_copyout(as, zeroes, fend, n);
		kfree(zeroes, VM_PAGESIZE);
	}
	if (end > im->i_end)
		im->i_end = end;
	return e;
}

static int image_map(struct as *as, struct image *im)
{
	for (unsigned i = 0; i < im->i_eh.e_phnum; i++) {
		const struct phdr *p = &im->i_ph[i];
		enum vm_err e;

		if (p->p_type != PT_LOAD || p->p_memsz == 0)
			continue;
		if ((e = map_part(as, im, p)) != VM_OK)
			return e == VM_INVAL || e == VM_EXIST ? -ENOEXEC : err_of(e);
		if (im->i_eh.e_phoff >= p->p_offset && im->i_eh.e_phoff < p->p_offset + p->p_filesz)
			im->i_phdr = im->i_bias + p->p_vaddr + (im->i_eh.e_phoff - p->p_offset);
	}
	return im->i_end == 0 ? -ENOEXEC : 0;
}

/* The range of all addresses of the file, to find a place for a position-independent program. */
static uint64_t image_span(const struct image *im)
{
	uint64_t end = 0;

	for (unsigned i = 0; i < im->i_eh.e_phnum; i++)
		if (im->i_ph[i].p_type == PT_LOAD &&
		    im->i_ph[i].p_vaddr + im->i_ph[i].p_memsz > end)
			end = im->i_ph[i].p_vaddr + im->i_ph[i].p_memsz;
	return vm_page_round(end);
}

/* ---- the stack ---- */
struct stack {
	struct as *s_as;
	uint64_t s_sp;
	int s_err;
};

static uint64_t push_bytes(struct stack *s, const void *p, uint64_t len)
{
	enum vm_err e;

	s->s_sp -= len;
	if (s->s_err == 0 && (e = as_copyout(s->s_as, p, s->s_sp, len)) != VM_OK)
		s->s_err = err_of(e);
	return s->s_sp;
}

static unsigned count_strings(char **v)
{
	unsigned n = 0;

	while (v[n] != NULL)
		n++;
	return n;
}

static int make_stack(struct proc *p, struct as *as, uint64_t top, const struct image *im,
    uint64_t base, uint64_t entry, const char *path, char **argv, char **envp, uint64_t *sp)
{
	unsigned argc = count_strings(argv), envc = count_strings(envp), n = 0,
		 total = argc + envc + 3 + 2 * 20;
	uint64_t *words = kzalloc(total * sizeof(*words)),
		 random[2] = { random_next(), random_next() };
	struct stack s = { as, top - 8, 0 };
	uint64_t execfn, rnd, platform;

	if (words == NULL)
		return -ENOMEM;
	execfn = push_bytes(&s, path, strlen(path) + 1);
	platform = push_bytes(&s, ARCH_UNAME, sizeof(ARCH_UNAME));
	rnd = push_bytes(&s, random, sizeof(random));
	words[n++] = argc;
	for (unsigned i = argc; i-- > 0;)
		words[1 + i] = push_bytes(&s, argv[i], strlen(argv[i]) + 1);
	p->p_arg_start = argc > 0 ? words[1] : 0;
	n += argc + 1;
	for (unsigned i = envc; i-- > 0;)
		words[n + i] = push_bytes(&s, envp[i], strlen(envp[i]) + 1);
	n += envc + 1;
	const struct cred *c = &p->p_cred;
	bool secure = c->c_uid != im->i_euid || c->c_gid != im->i_egid;
	const uint64_t aux[][2] = { { 3, im->i_phdr }, { 4, sizeof(struct phdr) },
		{ 5, im->i_eh.e_phnum }, { 6, VM_PAGESIZE }, { 7, base }, { 8, 0 }, { 9, entry },
		{ 11, c->c_uid }, { 12, im->i_euid }, { 13, c->c_gid }, { 14, im->i_egid },
		{ 15, platform }, { 16, ARCH_HWCAP }, { 17, 100 }, { 23, secure }, { 25, rnd },
		{ 31, execfn }, { 0, 0 } };
	for (unsigned i = 0; i < sizeof(aux) / sizeof(aux[0]); i++) {
		words[n++] = aux[i][0];
		words[n++] = aux[i][1];
	}
	s.s_sp = (s.s_sp - n * 8) & ~15ull;
	s.s_sp += n * 8;
	*sp = push_bytes(&s, words, n * 8);
	kfree(words, total * sizeof(*words));
	return s.s_err;
}

/* ---- the rest of the process ---- */
static bool is_alone_or_ends(void *arg)
{
	const struct proc *p = arg;

	return p->p_nthreads == 1 || p->p_exiting;
}

/*
 * Ends every other thread of the process; the calling thread takes the process's number. -EAGAIN:
 * the process ends, or another thread execs; the calling thread then ends when it leaves the
 * kernel.
 */
static int end_others(struct proc *p)
{
	struct uthread *me = this_uthread();
	bool irq, ends;

	if (p->p_nthreads > 1) {
		mach_mutex_enter(&proc_lock);
		irq = spin_lock(&sched_lock);
		if (!(ends = uthread_must_end(me))) {
			p->p_execer = me;
			proc_wake_others(p);
		}
		spin_unlock(&sched_lock, irq);
		mach_mutex_exit(&proc_lock);
		if (ends)
			return -EAGAIN;
		(void)wait_until(&p->p_wait, is_alone_or_ends, p, 0, false);
		irq = spin_lock(&sched_lock);
		p->p_execer = NULL;
		ends = p->p_exiting;
		spin_unlock(&sched_lock, irq);
		if (ends)
			return -EAGAIN;
	}
	mach_mutex_enter(&proc_lock);
	me->u_tid = p->p_pid;
	mach_mutex_exit(&proc_lock);
	return 0;
}

static void reset_signals(struct proc *p, struct uthread *u)
{
	if (p->p_sighand->sh_refcnt >
	    1) { /* the other process that shares the handlers keeps them */
		struct sighand *sh = kzalloc(sizeof(*sh));

		if (sh != NULL) {
			memcpy(sh->sh_action, p->p_sighand->sh_action, sizeof(sh->sh_action));
			sh->sh_refcnt = 1;
			p->p_sighand->sh_refcnt--;
			p->p_sighand = sh;
		}
	}
	for (unsigned i = 1; i <= NSIG; i++)
		if (p->p_sighand->sh_action[i].sa_handler != 1)
			p->p_sighand->sh_action[i] = (struct sigaction){ 0 };
	u->u_altstack = u->u_altsize = 0;
	u->u_altflags = 2;
	u->u_clear_tid = u->u_robust = 0;
}

static void keep_args(struct proc *p, char **argv)
{
	size_t n = 0;
	char *all;

	for (unsigned i = 0; argv[i] != NULL; i++)
		n += strlen(argv[i]) + 1;
	if ((all = kalloc(n + 1)) == NULL)
		return;
	kfree(p->p_args, p->p_argslen);
	p->p_args = all;
	p->p_argslen = n + 1;
	for (unsigned i = 0; argv[i] != NULL; i++) {
		memcpy(all, argv[i], strlen(argv[i]) + 1);
		all += strlen(argv[i]) + 1;
	}
	*all = '\0';
}

static void take_over(struct proc *p, struct as *as)
{
	struct as *old = p->p_as;
	bool borrowed = p->p_borrowed;

	arch_cur()->t_hat = as_hat(as);
	arch_load_space(as_hat(as));
	mach_mutex_enter(&proc_lock);
	p->p_as = as;
	mach_mutex_exit(&proc_lock);
	p->p_borrowed = false;
	if (borrowed)
		as_return(old);
	else
		as_free(old);
	release_vfork(p);
}

/*
 * Unshares the descriptors of a new program: *fs becomes a copy of a table shared with another
 * process (CLONE_FILES), or NULL.
 */
static int own_files(const struct proc *p, struct files **fs)
{
	if (p->p_files->fs_refcnt == 1)
		return 0;
	*fs = files_dup(p->p_files);
	return *fs != NULL ? 0 : -ENOMEM;
}

static int exec_image(
    struct image *im, struct image *loader, const char *path, char **argv, char **envp)
{
	struct proc *p = this_proc();
	struct uthread *u = this_uthread();
	uint64_t top = user_top() - (random_next() & 0x3fffff) * VM_PAGESIZE, sp = 0, entry;
	struct files *files = NULL;
	struct as *as;
	int err;

	if (as_alloc(the_vm, USER_MIN, user_top(), &as) != VM_OK)
		return -ENOMEM;
	im->i_bias =
	    im->i_eh.e_type == ET_DYN ? pie_base() + (random_next() & 0xffff) * VM_PAGESIZE : 0;
	if ((err = image_map(as, im)) != 0)
		goto fail;
	entry = im->i_eh.e_entry + im->i_bias;
	err = err_of(as_stack_init(as, top, STACK_FIRST,
	    p->p_rlim[3].cur < 64u << 20 ? p->p_rlim[3].cur : 64u << 20, STACK_GUARD,
	    PROT_R | PROT_W));
	if (err != 0)
		goto fail;
	if (loader != NULL) {
		vaddr_t at;

		if (as_gap(as, image_span(loader), VM_PAGESIZE, USER_MIN, mmap_below(p, top), true,
			&at) != VM_OK) {
			err = -ENOMEM;
			goto fail;
		}
		loader->i_bias = at;
		if ((err = image_map(as, loader)) != 0)
			goto fail;
	}
	if ((err = err_of(
		 as_brk_init(as, vm_page_round(im->i_end) + (random_next() & 0xfff) * VM_PAGESIZE,
		     user_top() / 8))) != 0)
		goto fail;
	err = make_stack(
	    p, as, top, im, loader != NULL ? loader->i_bias : 0, entry, path, argv, envp, &sp);
	if (err != 0 || (err = own_files(p, &files)) != 0 || (err = end_others(p)) != 0)
		goto fail;
	if (files != NULL)
		proc_set_files(p, files);
	p->p_stack_top = top;
	cred_begin_program(im->i_euid, im->i_egid);
	take_over(p, as);
	timers_forget(p, false);
	files_close_on_exec(p->p_files);
	reset_signals(p, u);
	keep_args(p, argv);
	proc_set_inode(&p->p_exe, inode_hold(im->i_inode)); /* the target of /proc/pid/exe */
	arch_user_init(arch_cur());
	tf_user_init(u->u_tf, loader != NULL ? loader->i_eh.e_entry + loader->i_bias : entry, sp);
	return 0;
fail:
	if (files != NULL)
		files_put(files);
	as_free(as);
	return err;
}

static int open_program(const char *path, struct inode **ip)
{
	struct inode *cwd = proc_hold_inode(&this_proc()->p_cwd);
	int err = vfs_walk(cwd, path, 0, ip);

	inode_put(cwd);
	if (err != 0)
		return err;
	if (inode_type(*ip) != S_IFREG || inode_may(*ip, MAY_EXEC) != 0) {
		inode_put(*ip);
		return -EACCES;
	}
	return 0;
}

static int exec_elf(struct inode *i, const char *path, char **argv, char **envp)
{
	struct image *im = kzalloc(2 * sizeof(*im)), *loader = NULL;
	int err;

	if (im == NULL)
		return -ENOMEM;
	im->i_inode = i;
	cred_of_program(i->i_uid, i->i_gid, i->i_mode, &im->i_euid, &im->i_egid);
	if ((err = image_read(im)) == 0 && im->i_interp[0] != '\0') {
		loader = im + 1;
		if ((err = open_program(im->i_interp, &loader->i_inode)) == 0)
			err = image_read(loader);
	}
	if (err == 0)
		err = exec_image(im, loader, path, argv, envp);
	if (loader != NULL)
		inode_put(loader->i_inode);
	kfree(im, 2 * sizeof(*im));
	return err;
}

/* "#!program argument": argv becomes program, argument, path, argv[1], ... */
static int exec_script(char *head, const char *path, char **argv, char **envp, unsigned depth);

static int exec_path(const char *path, char **argv, char **envp, unsigned depth)
{
	char *head;
	struct inode *i;
	uint64_t done = 0;
	int err;

	if (depth > 4)
		return -ELOOP;
	if ((err = open_program(path, &i)) != 0)
		return err;
	if ((head = kzalloc(256)) == NULL) {
		inode_put(i);
		return -ENOMEM;
	}
	(void)vnode_read(&i->i_vnode, 0, head, 255, &done);
	if (done > 2 && head[0] == '#' && head[1] == '!')
		err = exec_script(head + 2, path, argv, envp, depth);
	else
		err = exec_elf(i, path, argv, envp);
	kfree(head, 256);
	inode_put(i);
	return err;
}

static int exec_script(char *head, const char *path, char **argv, char **envp, unsigned depth)
{
	char *end = strchr(head, '\n'), *arg, **all;
	unsigned argc = count_strings(argv), n = 0;
	int err;

	if (end == NULL)
		return -ENOEXEC;
	while (end > head && (end[-1] == ' ' || end[-1] == '\t' || end[-1] == '\r'))
		end--;
	*end = '\0';
	while (*head == ' ' || *head == '\t')
		head++;
	for (arg = head; *arg != '\0' && *arg != ' ' && *arg != '\t'; arg++)
		;
	if (*arg != '\0')
		*arg++ = '\0';
	while (*arg == ' ' || *arg == '\t')
		arg++;
	if ((all = kzalloc((argc + 4) * sizeof(*all))) == NULL)
		return -ENOMEM;
	all[n++] = head;
	if (*arg != '\0')
		all[n++] = arg;
	all[n++] = (char *)(uintptr_t)path;
	for (unsigned i = 1; i < argc; i++)
		all[n++] = argv[i];
	err = exec_path(head, all, envp, depth + 1);
	kfree(all, (argc + 4) * sizeof(*all));
	return err;
}

int proc_exec(const char *path, char **argv, char **envp)
{
	size_t bytes = 0;
	int err;

	for (unsigned i = 0; argv[i] != NULL; i++)
		bytes += strlen(argv[i]) + 9;
	for (unsigned i = 0; envp[i] != NULL; i++)
		bytes += strlen(envp[i]) + 9;
	if (bytes > ARGS_MAX)
		return -E2BIG;
	if ((err = exec_path(path, argv, envp, 0)) != 0)
		return err;
	/* for a script, the script's name, not the interpreter's */
	for (const char *s = path; *s != '\0'; s++)
		if (s == path || s[-1] == '/')
			strlcpy(this_proc()->p_comm, s, sizeof(this_proc()->p_comm));
	return 0;
}
