/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * System calls of users and groups.
 *
 * Root may set any id; any other user may set the real, effective and saved ids to values that one
 * of the three has. An id of -1 stays as it is. proc/cred.h says what the ids permit. Locks: none.
 */
#include "kernel/proc/proc.h"
#include "kernel/sys/calls.h"

#define SAME UINT32_MAX /* an id that is to stay as it is */

/* The three ids of users, or of groups. */
struct three {
	uint32_t *t_real, *t_effective, *t_saved;
};

static struct cred *own_cred(void) { return &this_proc()->p_cred; }

static struct three own_users(void)
{
	struct cred *c = own_cred();

	return (struct three){ &c->c_uid, &c->c_euid, &c->c_suid };
}
static struct three own_groups(void)
{
	struct cred *c = own_cred();

	return (struct three){ &c->c_gid, &c->c_egid, &c->c_sgid };
}

static bool is_one_of(struct three t, uint32_t id)
{
	return id == SAME || id == *t.t_real || id == *t.t_effective || id == *t.t_saved;
}

static void set_ids(struct three t, uint32_t real, uint32_t effective, uint32_t saved)
{
	if (real != SAME)
		*t.t_real = real;
	if (effective != SAME)
		*t.t_effective = effective;
	if (saved != SAME)
		*t.t_saved = saved;
}

static int64_t set_three(struct three t, const uint64_t *a)
{
	uint32_t id[3] = { (uint32_t)a[0], (uint32_t)a[1], (uint32_t)a[2] };

	for (unsigned i = 0; i < 3; i++)
		if (!cred_is_root() && !is_one_of(t, id[i]))
			return -EPERM;
	set_ids(t, id[0], id[1], id[2]);
	return 0;
}

/*
 * setreuid and setregid. The saved id becomes the effective one if the real id is set, or if the
 * effective one is set to what the real one was not.
 */
static int64_t set_two(struct three t, const uint64_t *a)
{
	uint32_t real = (uint32_t)a[0], effective = (uint32_t)a[1], was = *t.t_real;

	if (!cred_is_root() && real != SAME && real != was && real != *t.t_effective)
		return -EPERM;
	if (!cred_is_root() && !is_one_of(t, effective))
		return -EPERM;
	set_ids(t, real, effective, SAME);
	if (real != SAME || (effective != SAME && effective != was))
		*t.t_saved = *t.t_effective;
	return 0;
}

/* setuid and setgid: root sets all three, others the effective id only. */
static int64_t set_one(struct three t, uint64_t arg)
{
	uint32_t id = (uint32_t)arg;

	if (id == SAME)
		return -EINVAL;
	if (cred_is_root())
		set_ids(t, id, id, id);
	else if (id == *t.t_real || id == *t.t_saved)
		*t.t_effective = id;
	else
		return -EPERM;
	return 0;
}

static int64_t give_three(struct three t, const uint64_t *a)
{
	if (copy_out(a[0], t.t_real, 4) != 0 || copy_out(a[1], t.t_effective, 4) != 0 ||
	    copy_out(a[2], t.t_saved, 4) != 0)
		return -EFAULT;
	return 0;
}

int64_t sys_getuid(const uint64_t *a)
{
	(void)a;
	return own_cred()->c_uid;
}
int64_t sys_getgid(const uint64_t *a)
{
	(void)a;
	return own_cred()->c_gid;
}
int64_t sys_geteuid(const uint64_t *a)
{
	(void)a;
	return own_cred()->c_euid;
}
int64_t sys_getegid(const uint64_t *a)
{
	(void)a;
	return own_cred()->c_egid;
}
int64_t sys_setuid(const uint64_t *a) { return set_one(own_users(), a[0]); }
int64_t sys_setgid(const uint64_t *a) { return set_one(own_groups(), a[0]); }
int64_t sys_setreuid(const uint64_t *a) { return set_two(own_users(), a); }
int64_t sys_setregid(const uint64_t *a) { return set_two(own_groups(), a); }
int64_t sys_setresuid(const uint64_t *a) { return set_three(own_users(), a); }
int64_t sys_setresgid(const uint64_t *a) { return set_three(own_groups(), a); }
int64_t sys_getresuid(const uint64_t *a) { return give_three(own_users(), a); }
int64_t sys_getresgid(const uint64_t *a) { return give_three(own_groups(), a); }

int64_t sys_getgroups(const uint64_t *a)
{
	const struct cred *c = own_cred();
	unsigned n = c->c_ngroups;

	if ((int)a[0] < 0 || (a[0] != 0 && (unsigned)a[0] < n))
		return -EINVAL;
	if (a[0] != 0 && copy_out(a[1], c->c_groups, n * sizeof(c->c_groups[0])) != 0)
		return -EFAULT;
	return n;
}
int64_t sys_setgroups(const uint64_t *a)
{
	struct cred *c = own_cred();
	uint32_t groups[GROUPS_MOST];
	uint64_t bytes = (unsigned)a[0] * sizeof(groups[0]);

	if (!cred_is_root())
		return -EPERM;
	if ((unsigned)a[0] > GROUPS_MOST)
		return -EINVAL;
	if (copy_in(groups, a[1], bytes) != 0)
		return -EFAULT;
	c->c_ngroups = 0;
	memcpy(c->c_groups, groups, bytes);
	c->c_ngroups = (unsigned)a[0];
	return 0;
}
