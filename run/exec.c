/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * execve and execveat: the environment of the new program. The family's two variables are added if
 * the caller left them out, so that the new program is hosted as well.
 *
 * The environment is the program's, and any pointer in it may be bad: args.c reads everything, and
 * an unreadable pointer gives EFAULT, as in the kernel. Behind a filter of system calls, which could
 * refuse the call or kill the process for it, the kernel is asked by execve (ask_by_exec). This code works in a vfork child, on the
 * small stack that posix_spawn() provides. A child of vfork leaves a large list in its parent: no
 * code is left in the child that could unmap it.
 *
 * Locks: none. Variables written in the constructor are constant afterwards.
 */
#include "run/exec.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "run/affinity.h"
#include "run/args.h"
#include "run/host.h"
#include "run/text.h"
#include "sys/linux/sys.h"

#define MAXENV 65536u
#define MAXPRELOAD 65536u
#define MAXFAMILY 160u
#define PRELOAD "LD_PRELOAD="
#define FAMILY "QUIRE_FAMILY="

/*
 * const after the constructor. The family's variable is stored without the PID after its last
 * colon.
 */
static char *env_preload, env_family[MAXFAMILY];
static char runtime_path[PATH_MAX]; /* the runtime's own name in LD_PRELOAD */
static bool hosted;
/*
 * A filter of system calls forbids what the runtime needs (filter.c). Only becomes true. Children
 * inherit it, as they inherit the filter.
 */
static _Atomic bool filtered;

/* Maps memory for the runtime. NULL: none. */
static void *map_own(size_t n)
{
	long p = sys_call6(
	    SYS_mmap, 0, (long)n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return sys_failed(p) ? NULL : (void *)p;
}

static char *join_variable(const char *name, const char *value)
{
	size_t n = strlen(name), v = strlen(value) + 1;
	char *s = map_own(n + v);

	if (s == NULL)
		return NULL;
	(void)memcpy(s, name, n);
	(void)memcpy(s + n, value, v);
	return s;
}

/* The entry of LD_PRELOAD's value that names the runtime. */
static void find_runtime_path(const char *value)
{
	for (size_t n = 0;; value++) {
		if (*value != ':' && *value != '\0') {
			if (n < PATH_MAX - 1)
				runtime_path[n++] = *value;
			continue;
		}
		runtime_path[n] = '\0';
		if (text_contains(runtime_path, EXEC_LIBRARY) || *value == '\0')
			return;
		n = 0;
	}
}

bool exec_prepare(const char *preload)
{
	env_preload = join_variable(PRELOAD, preload);
	find_runtime_path(preload);
	return env_preload != NULL;
}

void exec_hosted(void)
{
	(void)memcpy(env_family, FAMILY, sizeof FAMILY - 1);
	(void)host_family(env_family + sizeof FAMILY - 1);
	hosted = true;
}

void exec_unhosted(void) { filtered = true; }

/*
 * In another root directory (chroot) the runtime may not be found where it was. A program executed
 * there runs on the kernel's memory, and one line on standard error says so. LD_PRELOAD then omits
 * the runtime, so that the loader prints no error.
 */
static bool runtime_there(void)
{
	static const char head[] =
	    "quire: what is executed in this root directory (chroot) is not hosted, as it lacks ";
	long rc = sys_call4(SYS_faccessat, AT_FDCWD, (long)runtime_path, R_OK, 0);
	const struct iovec line[] = { { (void *)head, sizeof head - 1 },
		{ runtime_path, strlen(runtime_path) },
		{ (void *)": copy or mount it there\n", 25 } };

	if (rc != -ENOENT && rc != -ENOTDIR)
		return true;
	(void)sys_call3(SYS_writev, 2, (long)line, 3);
	return false;
}

/* The family's variable with the PID of the process that will execute the program. */
static char *write_family(char *out)
{
	long pid = sys_call0(SYS_getpid);
	char digits[24], *d = digits + sizeof digits, *p = out;

	*--d = '\0';
	do
		*--d = (char)('0' + pid % 10);
	while ((pid /= 10) > 0);
	for (const char *s = env_family; *s != '\0';)
		*p++ = *s++;
	(void)memcpy(p, d, (size_t)(digits + sizeof digits - d));
	return out;
}

/* ---- the program's list ---- */
#define HEAD 16u /* bytes of a string that are looked at */
_Static_assert(sizeof FAMILY + HOST_FAMILY <= MAXFAMILY, "the variable fits");
_Static_assert(sizeof FAMILY <= HEAD && sizeof PRELOAD <= HEAD, "a head contains each name");

enum variable { VAR_OTHER, VAR_PRELOAD, VAR_FAMILY };

/* A part of the program's list. The list is read in parts, as each read is a system call. */
struct block {
	char *b_s[ARGS_EACH];    /* entries; NULL: the list ends */
	uint8_t b_is[ARGS_EACH]; /* enum variable of each entry */
	unsigned b_n;            /* entries, the end among them */
};

static enum variable name_of(const char head[HEAD])
{
	if (memcmp(head, PRELOAD, sizeof PRELOAD - 1) == 0)
		return VAR_PRELOAD;
	return memcmp(head, FAMILY, sizeof FAMILY - 1) == 0 ? VAR_FAMILY : VAR_OTHER;
}

static size_t left_in_page(const void *p) { return 4096 - ((uintptr_t)p & 4095); }

/* Reads the head of a string that may end at the end of its page: nothing need follow that. */
static bool read_head(char head[HEAD], const char *s)
{
	size_t here = left_in_page(s);

	if (here >= HEAD)
		return args_read(head, s, HEAD);
	return args_read(head, s, here) &&
	    (memchr(head, '\0', here) != NULL || args_read(head + here, s + here, HEAD - here));
}

/* Finds out which variables the strings of the block are. 0, -EFAULT. */
static long read_names(struct block *b)
{
	char heads[ARGS_EACH][HEAD], head[HEAD] = { 0 };
	const void *from[ARGS_EACH] = { NULL };
	unsigned which[ARGS_EACH], n = 0;

	for (unsigned i = 0; i < b->b_n && b->b_s[i] != NULL; i++) {
		if (left_in_page(b->b_s[i]) >= HEAD) {
			which[n] = i;
			from[n++] = b->b_s[i];
			continue;
		}
		if (!read_head(head, b->b_s[i]))
			return -EFAULT;
		b->b_is[i] = (uint8_t)name_of(head);
	}
	if (n > 0 && !args_read_each(heads, from, n, HEAD))
		return -EFAULT;
	for (unsigned i = 0; i < n; i++)
		b->b_is[which[i]] = (uint8_t)name_of(heads[i]);
	return 0;
}

/* Reads the list from there on: no page but those that contain entries. 0, -EFAULT. */
static long read_block(struct block *b, char *const *list)
{
	size_t n = left_in_page(list) / sizeof *list;

	if (n == 0) /* the entry crosses to the next page */
		n = 1;
	if (n > ARGS_EACH)
		n = ARGS_EACH;
	if (!args_read(b->b_s, list, n * sizeof *list))
		return -EFAULT;
	for (b->b_n = 0; b->b_n < n && b->b_s[b->b_n] != NULL;)
		b->b_n++;
	b->b_n += b->b_n < n;
	return read_names(b);
}

struct env {
	char *const *e_list; /* the program's list; NULL: empty */
	size_t e_n;          /* entries of the list */
	size_t e_room;       /* bytes of the new LD_PRELOAD, end included */
	bool e_there;        /* the runtime exists in the root directory of the new program */
	bool e_family;       /* the new program gets the family's variable */
};

/* Adds to the room for the new LD_PRELOAD what the program's at s needs. 0, -EFAULT, -E2BIG. */
static long add_room(struct env *e, const char *s)
{
	long r = args_length(s, MAXPRELOAD);

	if (r < 0)
		return r;
	e->e_room += (size_t)r + strlen(env_preload) + 1;
	return e->e_room > MAXPRELOAD ? -E2BIG : 0;
}

/* Counts. 0, -EFAULT, -E2BIG. */
static long measure_env(struct env *e)
{
	struct block b;
	long r;

	e->e_n = 0;
	e->e_room = 1;
	while (e->e_list != NULL) {
		if ((r = read_block(&b, e->e_list + e->e_n)) != 0)
			return r;
		for (unsigned i = 0; i < b.b_n; i++) {
			if (b.b_s[i] == NULL)
				return 0;
			if (e->e_n++ == MAXENV)
				return -E2BIG;
			if (b.b_is[i] == VAR_PRELOAD && (r = add_room(e, b.b_s[i])) != 0)
				return r;
		}
	}
	return 0;
}

enum joined { JOINED, JOIN_NONE };

/*
 * Writes the new LD_PRELOAD for the program's at s to out, which has room for the size that
 * measure_env() found: the runtime stands first, unless the program's value names it. JOIN_NONE:
 * the value names a runtime that does not exist, which is left out. -EFAULT.
 */
static long join_preload(const struct env *e, char *out, const char *s)
{
	long n = args_length(s, MAXPRELOAD);
	size_t ours = strlen(env_preload), head = sizeof PRELOAD - 1;

	if (n < (long)head ||
	    (size_t)n + ours + 2 > e->e_room) /* another thread changed the list meanwhile */
		return -EFAULT;
	if (!args_read(out, s, (size_t)n + 1))
		return -EFAULT;
	out[n] = '\0';
	if (text_contains(out, EXEC_LIBRARY))
		return e->e_there ? JOINED : JOIN_NONE;
	if (!e->e_there)
		return JOINED;
	size_t own = (size_t)n - head;
	(void)memmove(out + ours + (own > 0), out + head, own + 1);
	(void)memcpy(out, env_preload, ours);
	if (own > 0)
		out[ours] = ':';
	return JOINED;
}

/*
 * Fills list, which has room for three more entries than the program's, and joined. 0 or -EFAULT.
 */
static long fill_env(const struct env *e, char **list, char *joined, char *family)
{
	struct block b = { .b_n = 0 };
	bool have = false;
	size_t j = 0;
	long how;

	for (size_t i = 0, at = 0; i < e->e_n; i++, at++) {
		if (at == b.b_n) {
			if (read_block(&b, e->e_list + i) != 0)
				return -EFAULT;
			at = 0;
		}
		char *s = b.b_s[at];

		if (s == NULL) /* another thread changed the list meanwhile */
			return -EFAULT;
		if (b.b_is[at] == VAR_FAMILY || (b.b_is[at] == VAR_PRELOAD && have))
			continue;
		if (b.b_is[at] == VAR_PRELOAD) {
			if ((how = join_preload(e, joined, s)) < 0)
				return how;
			if (how == JOIN_NONE)
				continue;
			have = true;
			s = joined;
		}
		list[j++] = s;
	}
	if (!have && e->e_there)
		list[j++] = env_preload;
	if (e->e_family)
		list[j++] = write_family(family);
	list[j] = NULL;
	return 0;
}

static long make_exec(long nr, const long *a, long list)
{
	return nr == SYS_execve ? sys_call3(nr, a[5], a[4], list)
				: sys_call5(nr, a[5], a[4], a[3], list, a[1]);
}

/*
 * The environment cannot be used, which the kernel finds after it has opened the program: an error
 * of the program's comes first. No process can read the last page of the address space.
 */
static long refuse_env(long nr, const long *a, long why)
{
	long r = make_exec(nr, a, -4096);

	return r == -EFAULT ? why : r;
}

/*
 * char endless[]: a string of more bytes than the kernel takes (MAX_ARG_STRLEN, 32 pages). It lies in
 * the library's file, whose pages all processes share.
 */
__asm__(".pushsection .rodata\n.type endless,@object\nendless:	.fill 33*4096,1,'e'\n	.byte 0\n"
	".size endless,.-endless\n.popsection\n");
extern const char endless[] __attribute__((visibility("hidden")));

/*
 * Is the whole environment readable? The program's own call is made with arguments that the kernel
 * refuses; a filter that permits the program's call permits this one. The kernel copies the
 * environment before the arguments. First the one argument is unreadable: a result other than
 * EFAULT, such as E2BIG for an environment that is too large, is the result of the program's call.
 * Then the argument is too long: E2BIG now says that the environment has been copied.
 * 0: it is readable; else the kernel's result for the program's call.
 */
static long ask_by_exec(long nr, const long *a)
{
	const char *refused[2] = { (const char *)-4096L, NULL };
	long b[6];
	unsigned args = nr == SYS_execve ? 4 : 3;
	long list = a[args - 1], r;

	(void)memcpy(b, a, sizeof b);
	b[args] = (long)refused;
	if ((r = make_exec(nr, b, list)) != -EFAULT)
		return r;
	refused[0] = endless;
	r = make_exec(nr, b, list);
	return r == -E2BIG ? 0 : r;
}

#define FEW_ENTRIES 512u
#define SHORT_TEXT 4096u

long exec_call(long nr, const long *a)
{
	unsigned at = nr == SYS_execve ? 3 : 2;
	struct env e = { .e_list = (char *const *)a[at] };
	long r;

	affinity_own();
	if (hosted && !host_own_process())
		hostfd_exec();
	if (!hosted)
		return sys_call6(nr, a[5], a[4], a[3], a[2], a[1], a[0]);
	if (args_unchecked() && (r = ask_by_exec(nr, a)) != 0)
		return r;
	if ((r = measure_env(&e)) != 0)
		return refuse_env(nr, a, r);
	/* behind such a filter a call of the runtime's could kill the process */
	e.e_family = !filtered;
	e.e_there = e.e_family && runtime_there();
	bool fits = e.e_n <= FEW_ENTRIES && e.e_room <= SHORT_TEXT;
	size_t bytes = (e.e_n + 3) * sizeof(char *) + e.e_room;
	char *few[fits ? e.e_n + 3 : 1], some[fits ? e.e_room : 1], family[MAXFAMILY + 24];
	char **list = fits ? few : map_own(bytes),
	     *joined = fits ? some : (char *)(list + e.e_n + 3);

	if (list == NULL)
		return -ENOMEM;
	if (e.e_there)
		host_close_on_exec();
	if ((r = fill_env(&e, list, joined, family)) == 0)
		r = make_exec(nr, a, (long)list);
	if (!fits)
		(void)sys_call2(SYS_munmap, (long)list, (long)bytes);
	return r;
}
