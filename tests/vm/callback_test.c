/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Callbacks to the holders of long-term soft locks: a holder is called before its range is removed,
 * at once or soon, as requested, and never without reason. On the simulated machine; every run is
 * the same.
 */
#include "tests/vm/segs.h"

struct holder {
	struct as_callback cb;
	struct as *as;
	enum as_cb answer;
	unsigned calls, event;
	bool go, locked;
	struct mach_mutex mx;
	struct mach_cv cv;
};

static void let_go(struct holder *h)
{
	assert_int_equal(
	    as_fault(h->as, h->cb.cb_addr, h->cb.cb_len, F_SOFTUNLOCK, S_WRITE), VM_OK);
	h->locked = false;
}

static enum as_cb on_event(void *arg, struct as *as, unsigned event, vaddr_t addr, uint64_t len)
{
	struct holder *h = arg;

	assert_true(addr < h->cb.cb_addr + h->cb.cb_len && h->cb.cb_addr < addr + len);
	assert_true(as == h->as);
	h->calls++;
	h->event = event;
	if (h->answer == AS_CB_DONE && h->locked)
		let_go(h);
	if (h->answer == AS_CB_SOON) {
		mach_mutex_enter(&h->mx);
		h->go = true;
		mach_cv_broadcast(&h->cv);
		mach_mutex_exit(&h->mx);
	}
	return h->answer;
}

static void hold(struct holder *h, struct as *as, vaddr_t va, uint64_t pages, enum as_cb answer)
{
	*h = (struct holder){ .as = as, .answer = answer };
	h->cb = (struct as_callback){ .cb_addr = va,
		.cb_len = pages * PG,
		.cb_events = AS_CB_UNMAP | AS_CB_SETPROT | AS_CB_FREE,
		.cb_fn = on_event,
		.cb_arg = h };
	assert_int_equal(as_fault(as, va, pages * PG, F_SOFTLOCK, S_WRITE), VM_OK);
	h->locked = true;
	as_callback_add(as, &h->cb);
}

static void holders_are_asked_before_the_range_goes(void **state)
{
	struct holder a, b;
	struct as *as;
	vaddr_t at = BASE + 4 * PG;
	struct sys s;

	(void)state;
	sys_init(&s, 128, 64);
	as = new_as(&s);
	assert_int_equal(map_anon(as, BASE, 32, 0), VM_OK);
	hold(&a, as, BASE, 2, AS_CB_KEEP);
	hold(&b, as, BASE + 4 * PG, 2, AS_CB_DONE);
	assert_int_equal(as_unmap(as, BASE + 8 * PG, 8 * PG), VM_OK); /* no holder's range */
	assert_int_equal(a.calls + b.calls, 0);
	assert_int_equal(as_setprot(as, BASE, 8 * PG, PROT_R), VM_OK);
	assert_true(a.calls == 1 && a.event == AS_CB_SETPROT && b.calls == 1);
	b.locked = true;
	assert_int_equal(as_setprot(as, BASE, 8 * PG, RW), VM_OK);
	assert_int_equal(as_unmap(as, BASE, 8 * PG), VM_LOCKED); /* holder a keeps its locks */
	assert_true(a.calls == 3 && a.event == AS_CB_UNMAP && b.calls == 3);
	assert_false(b.locked);
	a.answer = AS_CB_DONE;
	assert_int_equal(as_unmap(as, BASE, 2 * PG), VM_OK);
	assert_true(a.calls == 4 && !a.locked && b.calls == 3);
	/* a fixed mapping over the range calls the holder, too */
	assert_int_equal(as_fault(as, at, 2 * PG, F_SOFTLOCK, S_WRITE), VM_OK);
	b.locked = true;
	assert_int_equal(as_map_at(as, &at, 2 * PG, 0, AS_FIXED, seghole_create, NULL), VM_OK);
	assert_int_equal(b.calls, 4);
	as_callback_remove(as, &a.cb);
	assert_int_equal(as_unmap(as, BASE, 8 * PG), VM_OK);
	assert_int_equal(a.calls, 4);
	/* the end of the space */
	assert_int_equal(map_anon(as, BASE + 4 * PG, 4, 0), VM_OK);
	assert_int_equal(as_fault(as, BASE + 4 * PG, 2 * PG, F_SOFTLOCK, S_WRITE), VM_OK);
	b.locked = true;
	assert_sound(&s);
	as_free(as);
	assert_true(b.event == AS_CB_FREE && !b.locked);
	sys_fini(&s);
}

static void a_holder_in_the_heap_is_asked_when_brk_shrinks(void **state)
{
	struct holder h;
	struct as *as;
	vaddr_t now;
	struct sys s;

	(void)state;
	sys_init(&s, 128, 64);
	as = new_as(&s);
	assert_int_equal(as_brk_init(as, BASE, 64 * PG), VM_OK);
	assert_int_equal(as_brk(as, BASE + 8 * PG, &now), VM_OK);
	hold(&h, as, BASE + 4 * PG, 2, AS_CB_KEEP);
	assert_int_equal(as_brk(as, BASE + 7 * PG, &now), VM_OK); /* not the holder's pages */
	assert_int_equal(h.calls, 0);
	assert_int_equal(as_brk(as, BASE + 5 * PG, &now), VM_LOCKED);
	assert_int_equal(now, BASE + 7 * PG);
	assert_int_equal(h.calls, 1);
	h.answer = AS_CB_DONE;
	assert_int_equal(as_brk(as, BASE + 5 * PG, &now), VM_OK);
	assert_int_equal(now, BASE + 5 * PG);
	assert_true(h.calls == 2 && h.event == AS_CB_UNMAP && !h.locked);
	as_callback_remove(as, &h.cb);
	assert_sound(&s);
	as_free(as);
	sys_fini(&s);
}

/* ---- locks released later ---- */
static void device(void *arg)
{
	struct holder *h = arg;

	mach_mutex_enter(&h->mx);
	while (!h->go)
		mach_cv_wait(&h->cv, &h->mx);
	mach_mutex_exit(&h->mx);
	for (unsigned i = 0; i < 20; i++)
		mach_yield(); /* the device's transfer takes a while */
	let_go(h);
}

static void unmapper(void *arg)
{
	struct holder *h = arg;

	assert_int_equal(as_unmap(h->as, BASE, 32 * PG), VM_OK);
	assert_false(h->locked);
}

static void who_lets_go_soon_is_waited_for(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed <= 50; seed++) {
		struct sim_config cfg = { .frames = 128,
			.ncpus = 1 + (unsigned)(seed % 4),
			.seed = seed,
			.threads = true };
		struct holder h;
		struct as *as;
		struct sys s;

		sys_init_cfg(&s, &cfg, 64);
		as = new_as(&s);
		assert_int_equal(map_anon(as, BASE, 32, 0), VM_OK);
		hold(&h, as, BASE + 3 * PG, 4, AS_CB_SOON);
		mach_mutex_init(&h.mx, 15, "device");
		mach_cv_init(&h.cv);
		sim_spawn(s.m, device, &h, "device");
		sim_spawn(s.m, unmapper, &h, "unmapper");
		sim_run(s.m);
		assert_int_equal(h.calls, 1);
		as_callback_remove(as, &h.cb);
		assert_int_equal(rss(as), 0);
		mach_cv_fini(&h.cv);
		mach_mutex_fini(&h.mx);
		as_free(as);
		sys_fini(&s);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(holders_are_asked_before_the_range_goes),
		cmocka_unit_test(a_holder_in_the_heap_is_asked_when_brk_shrinks),
		cmocka_unit_test(who_lets_go_soon_is_waited_for),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
