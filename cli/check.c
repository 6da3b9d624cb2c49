/* SPDX-License-Identifier: BSD-2-Clause */
/* Checks whether a program can be hosted: it is found, executable, a dynamically linked x86-64
 * program (or a script of one), and not set-uid; and whether this user and kernel can serve its
 * faults. Each refusal is one line: the cause and the way out. */
#include "cli.h"
#include <getopt.h>

#include "far.h"
#include "offer.h"
#include "options.h"
#include "store/swapfile.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>

static bool find_in_path(const char *name, char *path, size_t len)
{
	const char *p = getenv("PATH");

	if (strchr(name, '/') != NULL) {
		(void)snprintf(path, len, "%s", name);
		/* A file that may not be looked at cannot be opened either, and the failure to open
		 * it is what the line reports. */
		return access(path, F_OK) == 0 || errno == EACCES;
	}
	for (p = p != NULL ? p : "/usr/local/bin:/usr/bin:/bin"; *p != '\0';) {
		size_t n = strcspn(p, ":");

		(void)snprintf(path, len, "%.*s/%s", (int)(n > 0 ? n : 1), n > 0 ? p : ".", name);
		struct stat st;
		if (stat(path, &st) == 0 && S_ISREG(st.st_mode) && access(path, X_OK) == 0)
			return true;
		p += n + (p[n] == ':');
	}
	return false;
}

static bool check_elf(int fd, const char *path, char *why, size_t whylen)
{
	Elf64_Ehdr eh;

	if (pread(fd, &eh, sizeof eh, 0) != (ssize_t)sizeof eh ||
	    memcmp(eh.e_ident, ELFMAG, SELFMAG) != 0) {
		(void)snprintf(
		    why, whylen, "'%s' is neither an ELF program nor a script with #!", path);
		return false;
	}
	if (eh.e_ident[EI_CLASS] != ELFCLASS64 || eh.e_machine != EM_X86_64) {
		(void)snprintf(
		    why, whylen, "'%s' is not an x86-64 program: only those can be hosted", path);
		return false;
	}
	for (unsigned i = 0; i < eh.e_phnum; i++) {
		Elf64_Phdr ph;

		if (pread(fd, &ph, sizeof ph, (off_t)(eh.e_phoff + (uint64_t)i * eh.e_phentsize)) !=
		    (ssize_t)sizeof ph)
			break;
		if (ph.p_type == PT_INTERP) {
			char interp[256] = "";

			(void)!pread(fd, interp, sizeof interp - 1, (off_t)ph.p_offset);
			if (strstr(interp, "ld-linux-x86-64") != NULL)
				return true;
			(void)snprintf(why, whylen,
			    "'%s' uses the loader %s: use a build of it for the GNU C library",
			    path, interp);
			return false;
		}
	}
	struct stat it, us;
	if (fstat(fd, &it) == 0 && stat("/proc/self/exe", &us) == 0 && it.st_dev == us.st_dev &&
	    it.st_ino == us.st_ino)
		return true; /* quire run itself reports better that it cannot run inside itself */
	(void)snprintf(why, whylen,
	    "'%s' is statically linked and cannot be hosted: use a dynamically linked build of it",
	    path);
	return false;
}

/* Says why a file that is to be executed cannot be. fd: -1 if the file could not be opened, because
 * of error. */
static void explain_file(
    int fd, int error, const struct stat *st, const char *path, char *why, size_t whylen)
{
	struct stat there;

	if (fd < 0 && error == EACCES && stat(path, &there) != 0)
		(void)snprintf(why, whylen,
		    "'%s' cannot be reached: this user may not enter a folder of its path; see its permissions",
		    path);
	else if (fd < 0 && error != EACCES)
		(void)snprintf(why, whylen, "'%s' cannot be read: %s; see its permissions", path,
		    strerror(error));
	else if (fd >= 0 && S_ISDIR(st->st_mode))
		(void)snprintf(why, whylen, "'%s' is a directory: name a program", path);
	else
		(void)snprintf(
		    why, whylen, "'%s' cannot be executed: check its permissions (chmod +x)", path);
}

/* False: the program would have other rights than its starter, and the loader ignores LD_PRELOAD then. */
static bool keeps_rights(int fd, const struct stat *st, const char *path, char *why, size_t whylen)
{
	const char *what = NULL;

	if (geteuid() == 0)
		return true;
	if ((st->st_mode & (mode_t)(S_ISUID | S_ISGID)) != 0)
		what = "is set-uid or set-gid and cannot be hosted: run it as its owner";
	else if (fgetxattr(fd, "security.capability", NULL, 0) > 0)
		what = "has file capabilities and cannot be hosted: run it as root";
	if (what != NULL)
		(void)snprintf(why, whylen, "'%s' %s", path, what);
	return what == NULL;
}

bool cli_check_program(const char *name, char *path, size_t pathlen, char *why, size_t whylen)
{
	char cur[4096], line[512];

	if (!find_in_path(name, path, pathlen)) {
		(void)snprintf(why, whylen,
		    "'%s' was not found: give a path, or a name that is in PATH", name);
		errno = ENOENT;
		return false;
	}
	(void)snprintf(cur, sizeof cur, "%s", path);
	for (int depth = 0; depth < 5; depth++) {
		struct stat st;
		int fd = open(cur, O_RDONLY | O_CLOEXEC), errno_was = errno;
		ssize_t n;

		errno = EACCES;
		if (fd < 0 || fstat(fd, &st) != 0 || !S_ISREG(st.st_mode) ||
		    access(cur, X_OK) != 0) {
			explain_file(fd, errno_was, &st, cur, why, whylen);
			errno = EACCES;
			if (fd >= 0)
				(void)close(fd);
			return false;
		}
		if (!keeps_rights(fd, &st, cur, why, whylen)) {
			(void)close(fd);
			return false;
		}
		n = pread(fd, line, sizeof line - 1, 0);
		line[n > 0 ? n : 0] = '\0';
		if (n > 2 && line[0] == '#' && line[1] == '!') {
			char *p = line + 2 + strspn(line + 2, " \t");

			p[strcspn(p, " \t\n")] = '\0';
			(void)snprintf(cur, sizeof cur, "%s", p);
			(void)close(fd);
			continue;
		}
		bool ok = check_elf(fd, cur, why, whylen);
		(void)close(fd);
		errno = ENOEXEC;
		return ok;
	}
	(void)snprintf(why, whylen,
	    "'%s': too many levels of #! lines: name the interpreter and the script", path);
	return false;
}

static const char *uffd_way = ""; /* how the last fault descriptor was obtained */
static uint64_t uffd_features;    /* what such a descriptor can do */

/* * *call: the error of the system call; *device: the error of opening the device, 0 if that was
 * not tried or succeeded. -1: there is no descriptor. */
static int open_uffd(int *call, int *device)
{
	int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK), dev;

	*call = errno;
	*device = 0;
	uffd_way = "by the system call";
	if (fd >= 0)
		return fd;
	dev = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC);
	if (dev < 0) {
		*device = errno;
		return -1;
	}
	fd = ioctl(dev, _IO(0xAA, 0x00), O_CLOEXEC | O_NONBLOCK); /* USERFAULTFD_IOC_NEW */
	(void)close(dev);
	uffd_way = "by /dev/userfaultfd";
	return fd;
}

static int new_uffd(void)
{
	int call, device;

	return open_uffd(&call, &device);
}

bool cli_check_uffd(char *why, size_t whylen)
{
	struct uffdio_api api = { .api = UFFD_API, .features = 0 };
	int first, device, fd;

	if (access("/proc/self/fd", F_OK) != 0) {
		(void)snprintf(why, whylen,
		    "there is no /proc here, which quire reads: 'mount -t proc proc /proc'");
		return false;
	}
	if ((fd = open_uffd(&first, &device)) < 0) {
		if (device == EACCES)
			(void)snprintf(why, whylen,
			    "this user may not open /dev/userfaultfd: 'chmod 666 /dev/userfaultfd' (on the host, for a container), or "
			    "run as root, or 'sysctl vm.unprivileged_userfaultfd=1'");
		else if (prctl(PR_GET_SECCOMP, 0, 0, 0, 0) == 2)
			(void)snprintf(why, whylen,
			    "userfaultfd is forbidden here, as in most containers: give the container /dev/userfaultfd "
			    "(docker run --device /dev/userfaultfd; see man quire, CONTAINERS)");
		else if (first == ENOSYS)
			(void)snprintf(why, whylen,
			    "this kernel has no userfaultfd: Linux 5.7 or later with CONFIG_USERFAULTFD is needed");
		else
			(void)snprintf(why, whylen,
			    "no permission for userfaultfd: run as root, or 'sysctl vm.unprivileged_userfaultfd=1', "
			    "or grant access to /dev/userfaultfd");
		return false;
	}
	bool ok = ioctl(fd, UFFDIO_API, &api) == 0 &&
	    (api.features & UFFD_FEATURE_PAGEFAULT_FLAG_WP) != 0;
	uffd_features = api.features;
	(void)close(fd);
	if (!ok)
		(void)snprintf(why, whylen,
		    "this kernel's userfaultfd cannot write-protect pages: Linux 5.7 or later is needed");
	return ok;
}

/* quire check [options] URL|@FILE: what to expect of that engine, and of the disk where the swap file would be. */
static int check_far(int argc, char **argv)
{
	struct run_options o;
	struct far_options fo;
	const char *why;
	char disk[64];
	int fd, rc;

	(void)prctl(PR_SET_DUMPABLE, 0); /* the URL may hold a password */
	if ((rc = cli_options(&o, argc, argv)) != 0 || o.help || o.listed)
		return o.help ? cli_help_check() : rc;
	if (optind + 1 != argc)
		return fail("check takes one URL: quire check redis://host:port");
	if ((rc = cli_take_url(&o, argv[optind])) != 0 || (rc = cli_check_far(&o)) != 0)
		return rc;
	if ((rc = far_take_password(&o)) != 0)
		return rc;
	if (o.far_timeout_ms == 30000) /* the default is for a program that waits for a server; no
	                                * program waits here */
		o.far_timeout_ms = 3000;
	fo = run_far_options(&o);
	if (far_check(&fo, o.swap[0].url, o.encrypt != ENCRYPT_NONE, -1) != 0)
		return CLI_CANNOT;
	if ((fd = swapfile_open(NULL, 64u << 20, o.force, &why)) < 0 ||
	    ftruncate(fd, 64 << 20) != 0)
		return 0; /* the far engine's figures stand alone */
	(void)snprintf(disk, sizeof disk, "file:/proc/self/fd/%d", fd);
	return far_check(&fo, disk, o.encrypt == ENCRYPT_ALL, fd) == 0 ? 0 : CLI_CANNOT;
}

static bool names_engine(const char *word) { return word[0] == '@' || strstr(word, "://") != NULL; }

/* If a URL stands before options, it goes to the end: options come first. Is the last word a URL or @FILE then? */
static bool engine_last(int argc, char **argv)
{
	for (int i = 1; i + 1 < argc; i++) {
		char *url = argv[i];

		if (url[0] == '-' || strstr(url, "://") == NULL)
			continue;
		memmove(&argv[i], &argv[i + 1], (size_t)(argc - 1 - i) * sizeof *argv);
		argv[argc - 1] = url;
		break;
	}
	return argc > 1 && names_engine(argv[argc - 1]);
}

/* quire check [program]: one line each; on standard error, the first obstacle and the way out. */
int cli_check(int argc, char **argv)
{
	char why[4096 + 256], path[4096], size[24];

	if (argc > 1 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0))
		return cli_help_check();
	if (argc > 1 && strcmp(argv[1], "--") == 0) {
		argv++;
		argc--;
	} else if (engine_last(argc, argv)) {
		return check_far(argc, argv);
	} else if (argc > 1 && argv[1][0] == '-') {
		return cli_unknown_option(argv[1]);
	}
	if (argc > 2)
		return fail(
		    "check takes one program, without its arguments; see quire check --help");
	if (!cli_check_uffd(why, sizeof why))
		return fail("%s", why);
	printf("userfaultfd  %s\n", uffd_way);
	cli_print_offers(uffd_features, new_uffd);
	printf(
	    "memory       %s in this machine or container\n", cli_human(cli_total_memory(), size));
	if (argc == 2) {
		if (!cli_check_program(argv[1], path, sizeof path, why, sizeof why)) {
			int status = errno == ENOENT ? CLI_NOTFOUND : CLI_NOEXEC;

			fflush(stdout);
			fprintf(stderr, "quire: %s\n", why);
			return status;
		}
		printf("program      %s can be hosted\n", path);
	}
	return 0;
}
