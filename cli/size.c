/* SPDX-License-Identifier: BSD-2-Clause */
/* Sizes as people write and read them; the memory that this process may use. */
#include "cli.h"

#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

bool cli_size(const char *text, uint64_t total, uint64_t *bytes)
{
	char *end;
	double v, unit = 1;

	if (!isdigit((unsigned char)text[0]) && text[0] != '.')
		return false;
	v = strtod(text, &end);
	if (end == text || !isfinite(v) || v < 0 || strpbrk(text, "xXnN") != NULL)
		return false;
	if (*end == '%') {
		if (total == 0 || v > 100 || end[1] != '\0')
			return false;
		*bytes = (uint64_t)((double)total * v / 100);
		return true;
	}
	end += strspn(end, " ");
	switch (toupper((unsigned char)*end)) {
	case 'T': unit *= 1024; /* fall through */
	case 'G': unit *= 1024; /* fall through */
	case 'M': unit *= 1024; /* fall through */
	case 'K':
		unit *= 1024;
		end++;
		break;
	default: break;
	}
	if (strcmp(end, "") != 0 && strcasecmp(end, "b") != 0 && strcasecmp(end, "ib") != 0)
		return false;
	if (v * unit > 1e15)
		return false;
	*bytes = (uint64_t)(v * unit);
	return true;
}

const char *cli_human(uint64_t bytes, char buf[24])
{
	static const char *const unit[] = { "B", "KiB", "MiB", "GiB", "TiB" };
	double v = (double)bytes;
	unsigned u = 0;

	while (v >= 1024 && u < 4) {
		v /= 1024;
		u++;
	}
	(void)snprintf(
	    buf, 24, u == 0 || v >= 100 || v == floor(v) ? "%.0f %s" : "%.1f %s", v, unit[u]);
	return buf;
}

static void take_limit(const char *path, uint64_t *least)
{
	char line[64];
	FILE *f = fopen(path, "re");

	if (f == NULL)
		return;
	if (fgets(line, sizeof line, f) != NULL && isdigit((unsigned char)line[0])) {
		uint64_t v = strtoull(line, NULL, 10);

		if (v > 0 && v < *least)
			*least = v;
	}
	(void)fclose(f);
}

/* The least of the limits of the cgroup and of all that contain it. A container may see its own
 * group as the root: that is included. */
static void take_limits(const char *mount, char *group, const char *name, uint64_t *least)
{
	char path[4400];

	for (;;) {
		char *slash = strrchr(group, '/');

		(void)snprintf(path, sizeof path, "%s%s/%s", mount, group, name);
		take_limit(path, least);
		if (slash == NULL)
			break;
		*slash = '\0';
	}
}

uint64_t cli_total_memory(void)
{
	uint64_t least = (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);
	char line[4096];
	FILE *f = fopen("/proc/self/cgroup", "re");

	while (f != NULL && fgets(line, sizeof line, f) != NULL) {
		char *c1 = strchr(line, ':'), *c2 = c1 != NULL ? strchr(c1 + 1, ':') : NULL;

		if (c2 == NULL)
			continue;
		*c2++ = '\0';
		c2[strcspn(c2, "\n")] = '\0';
		if (strcmp(c1 + 1, "memory") == 0)
			take_limits("/sys/fs/cgroup/memory", c2, "memory.limit_in_bytes", &least);
		else if (c1[1] == '\0')
			take_limits("/sys/fs/cgroup", c2, "memory.max", &least);
	}
	if (f != NULL)
		(void)fclose(f);
	return least;
}
