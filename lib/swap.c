/* SPDX-License-Identifier: BSD-2-Clause */
/* See swap.h. */
#include "lib/swap.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "store/swapfile.h"

#define TIMEOUT_MS 30000u

static int refuse_place(const struct quire_config *c, int error, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	if (c->why != NULL && c->why_size > 0)
		(void)vsnprintf(c->why, c->why_size, fmt, ap);
	va_end(ap);
	return error;
}

static bool is_url(const char *where) { return where != NULL && strstr(where, "://") != NULL; }

static int read_password(struct quire_swap *sw, const char *path)
{
	FILE *f = fopen(path, "re");
	bool read;

	if (f == NULL)
		return refuse_place(sw->qs_config, errno, "%s: %s", path, strerror(errno));
	(void)setvbuf(f, NULL, _IONBF, 0); /* unbuffered, so that no copy of the password stays in a
	                                    * buffer */
	read = fgets(sw->qs_password, sizeof sw->qs_password, f) != NULL;
	(void)fclose(f);
	sw->qs_password[strcspn(sw->qs_password, "\r\n")] = '\0';
	return read && sw->qs_password[0] != '\0'
	    ? 0
	    : refuse_place(sw->qs_config, EINVAL, "%s: its first line must be the password", path);
}

static int take_password(struct quire_swap *sw, const struct quire_config *c)
{
	const char *p = c->swap_password;

	if (p == NULL && c->swap_password_file != NULL)
		return read_password(sw, c->swap_password_file);
	if (p == NULL && (p = getenv("QUIRE_SWAP_PASSWORD")) == NULL)
		return 0;
	if (strlen(p) >= sizeof sw->qs_password)
		return refuse_place(c, EINVAL, "the password of swap is longer than 255 bytes");
	(void)snprintf(sw->qs_password, sizeof sw->qs_password, "%s", p);
	return 0;
}

/* Opens the file of this machine: *fd. */
static int open_file(const struct quire_config *c, const char *path, uint64_t bytes, int *fd)
{
	struct statvfs vfs;
	const char *why = "";

	if (bytes == 0)
		return refuse_place(c, EINVAL, "a swap file needs a size");
	*fd = swapfile_open(path, bytes, c->swap_force != 0, &why);
	if (*fd < 0)
		return refuse_place(c, errno != 0 ? errno : EINVAL, "%s", why);
	if (c->swap_keep_free != 0 && fstatvfs(*fd, &vfs) == 0 &&
	    (uint64_t)vfs.f_bavail * vfs.f_frsize < bytes + c->swap_keep_free)
		return refuse_place(
		    c, ENOSPC, "the swap file would leave less than swap_keep_free");
	return 0;
}

static int add_place(struct quire_swap *sw, const struct quire_place *place)
{
	const struct quire_config *c = sw->qs_config;
	bool url = is_url(place->where), sealed = c->encrypt == QUIRE_ENCRYPT_ALL;
	struct far_plan *plan = &sw->qs_plan[sw->qs_nfar];
	char why[FAR_WHY_START];

	if (!url && !sealed) {
		if (sw->qs_bytes != 0)
			return refuse_place(c, EINVAL, "two places of this machine");
		sw->qs_bytes = place->bytes;
		return open_file(c, place->where, place->bytes, &sw->qs_fd);
	}
	if (sw->qs_nfar == POOL_FARS)
		return refuse_place(c, EINVAL, "at most %u places of servers", POOL_FARS);
	*plan = (struct far_plan){ .url = url ? place->where : NULL,
		.file = -1,
		.encrypt = c->encrypt != QUIRE_ENCRYPT_NONE,
		.bytes = place->bytes,
		.keep_free = c->swap_keep_free };
	sw->qs_nfar++;
	if (!url)
		return open_file(c, place->where, place->bytes, &plan->file);
	return far_probe(&sw->qs_options, plan, why) == 0 ? 0
							  : refuse_place(c, ENOTCONN, "%s", why);
}

int quire_swap_open(struct quire_swap *sw, const struct quire_config *c)
{
	struct quire_place only = { c->swap_path, c->swap };
	const struct quire_place *places = c->nplaces != 0 ? c->places : &only;
	unsigned n = c->nplaces != 0 ? c->nplaces : c->swap != 0;
	int rc;

	memset(sw, 0, sizeof *sw);
	sw->qs_fd = -1;
	sw->qs_config = c;
	if (c->nplaces > QUIRE_PLACES || (c->nplaces != 0 && (c->places == NULL || c->swap != 0)) ||
	    c->encrypt > QUIRE_ENCRYPT_NONE)
		return refuse_place(
		    c, EINVAL, "swap and places, too many places, or encrypt is none of the three");
	rc = take_password(sw, c);
	sw->qs_options = (struct far_options){
		.timeout_ms = c->far_timeout_ms != 0 ? c->far_timeout_ms : TIMEOUT_MS,
		.replicas = c->far_replicas,
		.ca = c->far_ca,
		.psk = c->far_psk,
		.password = sw->qs_password,
		.program = c->far_program,
	};
	for (unsigned i = 0; i < n && rc == 0; i++)
		rc = add_place(sw, &places[i]);
	return rc;
}

int quire_swap_start(const struct quire_swap *sw, unsigned i, struct far_started *f, int fd)
{
	char why[FAR_WHY_START];

	if (far_start(f, &sw->qs_options, &sw->qs_plan[i], fd, 0, why) == 0)
		return 0;
	return refuse_place(sw->qs_config, ENOTCONN, "%s", why);
}

void quire_swap_close(struct quire_swap *sw)
{
	explicit_bzero(sw->qs_password, sizeof sw->qs_password);
	for (unsigned i = 0; i < sw->qs_nfar; i++)
		if (sw->qs_plan[i].file >= 0)
			(void)close(sw->qs_plan[i].file);
}
