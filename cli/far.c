/* SPDX-License-Identifier: BSD-2-Clause */
/* Far swap of a run: passes the options and the password to quire-far (far/start.c), and prints the
 * supervisor's lines about it. */
#include "far.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"

static char password[256]; /* "": none */

/* Reads the first line of the file. */
static int read_password(const char *path)
{
	FILE *f = fopen(path, "re");
	bool whole;

	if (f == NULL)
		return fail("--swap-password %s: %s; name a file whose first line is the password",
		    path, strerror(errno));
	password[0] = '\0';
	(void)setvbuf(f, NULL, _IONBF, 0); /* unbuffered, so that no copy of the password stays in a
	                                    * buffer */
	whole = fgets(password, sizeof password, f) != NULL &&
	    (strchr(password, '\n') != NULL || feof(f) != 0 || fgetc(f) == EOF);
	(void)fclose(f);
	password[strcspn(password, "\r\n")] = '\0';
	if (!whole || password[0] == '\0')
		return fail(
		    "--swap-password %s: write the password, of at most 254 bytes, to its first line",
		    path);
	return 0;
}

int far_take_password(const struct run_options *o)
{
	const char *p = getenv("QUIRE_SWAP_PASSWORD");

	if (p != NULL) {
		if (strlen(p) >= sizeof password)
			return fail(
			    "QUIRE_SWAP_PASSWORD is longer than 255 bytes: set it to a shorter one");
		(void)snprintf(password, sizeof password, "%s", p);
		(void)unsetenv("QUIRE_SWAP_PASSWORD");
	}
	return o->password_file != NULL ? read_password(o->password_file) : 0;
}

struct far_options run_far_options(const struct run_options *o)
{
	return (struct far_options){ .timeout_ms = o->far_timeout_ms,
		.replicas = o->far_replicas,
		.ca = o->far_ca,
		.psk = o->far_psk,
		.password = password };
}

void run_far_hear(struct run_far *f)
{
	if (far_hear(&f->started))
		return;
	(void)fail(
	    "swap at %s: quire-far has ended; an access to a page that lies there ends in SIGBUS; run the program again",
	    f->url);
	far_stop(&f->started);
}
