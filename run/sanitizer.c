/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Programs built with AddressSanitizer. The sanitizer's runtime refuses to start if another library
 * was loaded before it, as Quire's is; the option verify_asan_link_order=0 of ASAN_OPTIONS disables
 * this check. The sanitizer reads the option from the environment at execve(), so the program is
 * executed a second time with that option before its own options. The option is inherited, so a
 * program that such a program starts is executed only once.
 *
 * Its leak check, at the end of the program, stops every thread of the process, the service thread
 * included, and then reads all memory: it would wait forever for a paged-out page. So the leak
 * check is disabled, and a line says so, unless the program's own options set it: of two settings
 * the last is valid.
 */
#include "run/sanitizer.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "run/text.h"
#include "sys/linux/elf.h"
#include "sys/linux/sys.h"

#define VARIABLE "ASAN_OPTIONS="
#define ORDER "verify_asan_link_order=0"
#define OPTIONS ORDER ":detect_leaks=0"

static int is_asan(const struct elf_object *o, void *arg)
{
	(void)arg;
	return text_contains(o->name, "libasan.so") || text_contains(o->name, "libclang_rt.asan");
}

static void say_line(const char *line)
{
	(void)sys_call3(SYS_write, 2, (long)line, (long)strlen(line));
}

/*
 * Makes a copy of the environment in which ASAN_OPTIONS begins with the options needed here. NULL:
 * no memory.
 */
static char **with_option(char **envp, const char *own)
{
	size_t n = 0;

	while (envp[n] != NULL)
		n++;
	size_t bytes = (n + 2) * sizeof *envp + strlen(own) + sizeof VARIABLE OPTIONS + 1;
	long m = sys_call6(
	    SYS_mmap, 0, (long)bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (sys_failed(m))
		return NULL;
	char **list = (char **)m, *options = (char *)(list + n + 2);
	(void)strcpy(options, VARIABLE OPTIONS);
	if (own[0] != '\0') {
		(void)strcat(options, ":");
		(void)strcat(options, own);
	}
	size_t j = 0;
	for (size_t i = 0; i < n; i++)
		if (strncmp(envp[i], VARIABLE, sizeof VARIABLE - 1) != 0)
			list[j++] = envp[i];
	list[j] = options;
	return list;
}

/*
 * The path by which the program was executed, which determines its name; another path if that file
 * is a script or no longer exists.
 */
static const char *program_path(void)
{
	static const char self[] = "/proc/self/exe";
	const char *path = (const char *)elf_auxv(AT_EXECFN);
	struct stat a, b;

	if (path == NULL || sys_call4(SYS_newfstatat, AT_FDCWD, (long)path, (long)&a, 0) != 0 ||
	    sys_call4(SYS_newfstatat, AT_FDCWD, (long)self, (long)&b, 0) != 0 ||
	    a.st_dev != b.st_dev || a.st_ino != b.st_ino)
		return self;
	return path;
}

void sanitizer_start(char **argv, char **envp)
{
	const char *own = "";
	char **list;

	if (elf_each(is_asan, NULL) == 0)
		return;
	for (char **e = envp; *e != NULL; e++)
		if (strncmp(*e, VARIABLE, sizeof VARIABLE - 1) == 0)
			own = *e + sizeof VARIABLE - 1;
	if (text_contains(own, ORDER))
		return;
	/* A loader that was executed with the program as its argument has changed argv. */
	if (elf_auxv(AT_BASE) != 0 && (list = with_option(envp, own)) != NULL) {
		if (!text_contains(own, "detect_leaks="))
			say_line(
			    "quire: AddressSanitizer's leak check is off: it stops the thread that serves faults\n");
		(void)sys_call3(SYS_execve, (long)program_path(), (long)argv, (long)list);
	}
	say_line("quire: this program's AddressSanitizer needs an option: set ASAN_OPTIONS=" OPTIONS
		 "\n");
}
