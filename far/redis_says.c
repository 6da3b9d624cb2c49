/* SPDX-License-Identifier: BSD-2-Clause */
/* See redis_says.h. */
#include "far/redis_says.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The value of a field of INFO; "" if the field is absent. */
static void info_field(const char *info, const char *name, char *out, size_t room)
{
	const char *p = strstr(info, name);
	size_t n = 0;

	out[0] = '\0';
	if (p == NULL)
		return;
	for (p += strlen(name); *p != '\0' && *p != '\r' && *p != '\n' && n + 1 < room; p++)
		out[n++] = *p;
	out[n] = '\0';
}

/* maxmemory and used_memory */
static uint64_t room_left(uint64_t most, uint64_t used)
{
	if (most == 0)
		return UINT64_MAX;
	return used < most ? most - used : 0;
}

bool far_redis_judge(const char *info, bool cluster, uint64_t *room, char why[FAR_WHY])
{
	char max[24], used[24], policy[40], mode[16];
	uint64_t most;

	info_field(info, "\nused_memory:", used, sizeof used);
	info_field(info, "\nmaxmemory:", max, sizeof max);
	info_field(info, "\nmaxmemory_policy:", policy, sizeof policy);
	info_field(info, "\nredis_mode:", mode, sizeof mode);
	if (mode[0] == '\0') /* Valkey's name for it */
		info_field(info, "\nserver_mode:", mode, sizeof mode);
	most = strtoull(max, NULL, 10);
	*room = room_left(most, strtoull(used, NULL, 10));
	if (mode[0] == '\0')
		(void)snprintf(why, FAR_WHY, "INFO does not say what it is: is it Redis?");
	else if (most != 0 && strcmp(policy, "noeviction") != 0)
		(void)snprintf(why, FAR_WHY,
		    "it evicts keys when it is full (maxmemory-policy %s): pages would be lost; "
		    "set noeviction",
		    policy);
	else if (cluster != (strcmp(mode, "cluster") == 0))
		(void)snprintf(why, FAR_WHY,
		    cluster ? "it is no cluster: use redis://"
			    : "it is a cluster: use redis+cluster://");
	else
		return true;
	return false;
}

void far_redis_error(const char *said, char out[FAR_WHY])
{
	const char *args = strstr(said, ", with args");
	int n = args != NULL ? (int)(args - said) : 150;

	(void)snprintf(out, FAR_WHY, "%.*s", n < 150 ? n : 150, said);
}

void far_redis_refusal(const char *said, char why[FAR_WHY])
{
	const char *way_out = "";
	char text[FAR_WHY];

	far_redis_error(said, text);
	if (strncmp(said, "NOAUTH", 6) == 0 || strncmp(said, "WRONGPASS", 9) == 0)
		way_out = " Give the password by --swap-password FILE or QUIRE_SWAP_PASSWORD";
	else if (strncmp(said, "ERR AUTH", 8) == 0)
		way_out = " Give no password";
	else if (far_redis_lacks(said))
		way_out = ": a run needs it; was it renamed, or is the user not allowed to?";
	(void)snprintf(why, FAR_WHY, "%.150s%s", text, way_out);
}

bool far_redis_lacks(const char *said)
{
	return strncmp(said, "ERR unknown command", 19) == 0 || strncmp(said, "NOPERM", 6) == 0;
}
