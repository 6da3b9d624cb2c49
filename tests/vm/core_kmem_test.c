/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Kernel memory and arenas of addresses: caches used by two threads, misuse that debug builds find, arenas against a map of
 * bits. Runs on the stand-in machine of mach_stub.c.
 */
#include "tests/vm/phys_box.h"

#include <pthread.h>

/* ---- kernel memory ---- */

struct thing {
	uint64_t t_magic;
	struct thing *t_self;
	unsigned char t_body[72];
};

static unsigned things_made, things_unmade;

static bool thing_ctor(void *obj, void *arg)
{
	struct thing *t = obj;

	if (arg != NULL && --*(int *)arg == 0)
		return false;
	t->t_magic = 0x1234;
	t->t_self = t;
	__atomic_add_fetch(&things_made, 1, __ATOMIC_RELAXED);
	return true;
}

static void thing_dtor(void *obj, void *arg)
{
	struct thing *t = obj;

	(void)arg;
	if (t->t_magic != 0x1234 || t->t_self != t)
		mach_panic("an object lost its constructed state");
	t->t_magic = 0;
	__atomic_add_fetch(&things_unmade, 1, __ATOMIC_RELAXED);
}

struct kjob {
	struct vm *k_vm;
	struct kmem_cache *k_cache;
	unsigned k_cpu;
	uint64_t k_seed;
	unsigned k_done;
};

/* Random sizes, each filled with its own pattern and read back; also constructed objects. Runs on two threads at once. */
static void *kmem_worker(void *arg)
{
	enum { SLOTS = 400 };
	struct kjob *k = arg;
	struct {
		unsigned char *p;
		size_t size;
	} slot[SLOTS] = { 0 };
	uint64_t x = k->k_seed;

	stub_cpu_set(k->k_cpu);
	for (unsigned step = 0; step < 60000 + SLOTS; step++) {
		unsigned i;

		x ^= x << 13, x ^= x >> 7, x ^= x << 17;
		i = step < 60000 ? (unsigned)(x >> 20) % SLOTS : step - 60000;
		if (slot[i].p != NULL) {
			unsigned char *p = slot[i].p;
			size_t skip = slot[i].size == 0 ? offsetof(struct thing, t_body) : 0;
			size_t size = slot[i].size == 0 ? sizeof(struct thing) - 8 : slot[i].size;

			for (size_t j = skip; j < size; j++) {
				if (p[j] != (unsigned char)(i * 31 + j))
					mach_panic("kmem: contents changed");
			}
			if (slot[i].size == 0)
				kmem_cache_free(k->k_cache, p);
			else
				kmem_free(k->k_vm, p, slot[i].size);
			slot[i].p = NULL;
		} else if (step < 60000) {
			bool constructed = (x & 7) == 0;
			size_t size = constructed ? sizeof(struct thing) - 8
			    : (x & 63) == 1       ? 1 + (size_t)((x >> 32) % 20000)
						  : 1 + (size_t)((x >> 32) % 700);

			slot[i].p = constructed ? kmem_cache_alloc(k->k_cache, KM_NOSLEEP)
						: kmem_alloc(k->k_vm, size, KM_NOSLEEP);
			if (slot[i].p == NULL)
				continue;
			k->k_done++;
			slot[i].size = constructed ? 0 : size;
			if (constructed &&
			    ((struct thing *)(void *)slot[i].p)->t_self != (void *)slot[i].p)
				mach_panic("kmem: not constructed");
			for (size_t j = constructed ? offsetof(struct thing, t_body) : 0; j < size;
			     j++)
				slot[i].p[j] = (unsigned char)(i * 31 + j);
		}
	}
	return NULL;
}

static void caches_and_arenas_are_as_the_model_says(void **state)
{
	struct box b = box_open(1024, 1024, 1);
	struct kmem_cache *c = kmem_cache_create(
	    b.b_vm, "thing", sizeof(struct thing), 32, thing_ctor, thing_dtor, NULL);
	struct kjob job[2];
	pthread_t th[2];

	(void)state;
	things_made = things_unmade = 0;
	for (unsigned i = 0; i < 2; i++) {
		job[i] =
		    (struct kjob){ .k_vm = b.b_vm, .k_cache = c, .k_cpu = i, .k_seed = 99 + i };
		assert_int_equal(pthread_create(&th[i], NULL, kmem_worker, &job[i]), 0);
	}
	for (unsigned i = 0; i < 2; i++) {
		pthread_join(th[i], NULL);
		assert_true(job[i].k_done > 10000);
	}
	assert_int_equal(kmem_cache_inuse(c), 0);
	assert_sound(b.b_vm);
	assert_true(kmem_reap(b.b_vm) > 0);
	assert_true(things_made > 0);
	assert_int_equal(things_made, things_unmade);
	assert_int_equal(b.b_vm->vm_nfree + b.b_vm->vm_nkernel, 1024);
	kmem_cache_destroy(c);
	/* Only the caches' own descriptors are left. */
	(void)kmem_reap(b.b_vm);
	assert_true(b.b_vm->vm_nkernel <= 8);
	box_close(&b);
}

static void objects_are_aligned_and_empty_slabs_reaped(void **state)
{
	struct box b = box_open(512, 512, 5);
	uint32_t free_before;
	void *p[300];

	(void)state;
	for (size_t align = 8; align <= 4096; align *= 2) {
		struct kmem_cache *c =
		    kmem_cache_create(b.b_vm, "aligned", align + 24, align, NULL, NULL, NULL);

		for (unsigned i = 0; i < 20; i++) {
			p[i] = kmem_cache_alloc(c, KM_SLEEP);
			assert_non_null(p[i]);
			assert_int_equal((uintptr_t)p[i] & (align - 1), 0);
		}
		assert_int_equal(kmem_cache_inuse(c), 20);
		assert_sound(b.b_vm);
		for (unsigned i = 0; i < 20; i++)
			kmem_cache_free(c, p[i]);
		assert_int_equal(kmem_cache_inuse(c), 0);
		kmem_cache_destroy(c);
	}
	(void)kmem_reap(b.b_vm);
	free_before = b.b_vm->vm_nfree;
	for (unsigned i = 0; i < 300; i++)
		assert_non_null(p[i] = kmem_zalloc(b.b_vm, 2000, KM_SLEEP));
	for (unsigned i = 0; i < 300; i++)
		kmem_free(b.b_vm, p[i], 2000);
	assert_true(b.b_vm->vm_nfree < free_before);
	assert_true(kmem_reap(b.b_vm) > 0);
	assert_int_equal(b.b_vm->vm_nfree, free_before);
	assert_null(kmem_alloc(b.b_vm, (size_t)VM_PAGESIZE << (VM_MAXORDER + 1), KM_NOSLEEP));
	box_close(&b);
}

static void a_constructor_that_fails_leaves_nothing(void **state)
{
	struct box b = box_open(64, 64, 5);
	int countdown = 7;
	struct kmem_cache *c;

	(void)state;
	things_made = things_unmade = 0;
	c = kmem_cache_create(
	    b.b_vm, "thing", sizeof(struct thing), 0, thing_ctor, thing_dtor, &countdown);
	assert_null(kmem_cache_alloc(c, KM_NOSLEEP));
	assert_int_equal(things_made, 6);
	assert_int_equal(things_unmade, 6);
	assert_sound(b.b_vm);
	kmem_cache_destroy(c);
	box_close(&b);
}

#ifndef NDEBUG
/* Each misuse must panic and name the cache. The broken system is abandoned. */
static void kmem_misuse(unsigned kind)
{
	struct box b = box_open(64, 64, 5);
	struct kmem_cache *c = kmem_cache_create(b.b_vm, "victim", 40, 0, NULL, NULL, NULL);
	struct kmem_cache *other = kmem_cache_create(b.b_vm, "other", 40, 0, NULL, NULL, NULL);
	unsigned char *p = kmem_cache_alloc(c, KM_SLEEP);
	bool panicked = true;
	jmp_buf jump;

	assert_non_null(other);
	if (setjmp(jump) == 0) {
		stub_expect_panic(&jump);
		if (kind == 0) {
			kmem_cache_free(c, p);
			kmem_cache_free(c, p);
		} else if (kind == 1) {
			p[40] = 1;
			kmem_cache_free(c, p);
		} else if (kind == 2) {
			kmem_cache_free(c, p);
			p[3] = 1;
			(void)kmem_cache_alloc(c, KM_SLEEP);
		} else if (kind == 3) {
			kmem_cache_free(other, p);
		} else if (kind == 4) {
			kmem_cache_free(c, p + 8);
		} else {
			kmem_cache_destroy(c);
		}
		panicked = false;
	}
	assert_true(panicked);
	assert_non_null(strstr(stub_panic_message(), kind == 3 ? "other" : "victim"));
	stub_abandon(b.b_mach);
}

static void misuse_of_caches_is_found(void **state)
{
	(void)state;
	for (unsigned kind = 0; kind < 6; kind++)
		kmem_misuse(kind);
}
#endif

/* ---- vmem against a bitmap ---- */

#define V_UNITS 2048u
#define V_QUANTUM 16u
#define V_BASE 0x10000u

struct vrange {
	uint64_t addr, size;
};

static bool bits_free(const bool *map, uint64_t first, uint64_t n)
{
	for (uint64_t i = 0; i < n; i++) {
		if (first + i >= V_UNITS || map[first + i])
			return false;
	}
	return true;
}

static bool vmem_ok(uint64_t addr, uint64_t size, uint64_t align, uint64_t phase, uint64_t nocross,
    uint64_t min, uint64_t max)
{
	if ((addr - phase) % align != 0 || addr < min || (max != 0 && addr + size > max))
		return false;
	return nocross == 0 || addr / nocross == (addr + size - 1) / nocross;
}

/* Is there any free range? The second half is a separate span: no range crosses the border. */
static bool vmem_possible(const bool *map, uint64_t units, uint64_t align, uint64_t phase,
    uint64_t nocross, uint64_t min, uint64_t max)
{
	for (uint64_t i = 0; i + units <= V_UNITS; i++) {
		bool border = i < V_UNITS / 2 && i + units > V_UNITS / 2;

		if (!border && bits_free(map, i, units) &&
		    vmem_ok(
			V_BASE + i * V_QUANTUM, units * V_QUANTUM, align, phase, nocross, min, max))
			return true;
	}
	return false;
}

/* One allocation, every other with conditions: it is made if the map of bits says that it can be. */
static bool vmem_take(struct vmem *v, bool *map, struct vrange *r, uint64_t units, uint64_t size)
{
	uint64_t align = V_QUANTUM, phase = 0, nocross = 0, min = 0, max = 0, first;
	bool ok;

	if (rnd(2)) {
		align = (uint64_t)V_QUANTUM << rnd(6);
		phase = rnd(3) ? 0 : rnd((uint32_t)(align / V_QUANTUM)) * V_QUANTUM;
		nocross = rnd(3) ? 0 : 2048;
		min = rnd(3) ? 0 : V_BASE + rnd(V_UNITS) * V_QUANTUM;
		max = rnd(3) ? 0 : V_BASE + rnd(V_UNITS) * V_QUANTUM;
		ok = vmem_xalloc(v, size, align, phase, nocross, min, max, KM_NOSLEEP, &r->addr);
	} else {
		ok = vmem_alloc(v, size, KM_NOSLEEP, &r->addr);
	}
	assert_int_equal(ok, vmem_possible(map, units, align, phase, nocross, min, max));
	if (!ok)
		return false;
	first = (r->addr - V_BASE) / V_QUANTUM;
	assert_true(bits_free(map, first, units));
	assert_true(vmem_ok(r->addr, units * V_QUANTUM, align, phase, nocross, min, max));
	memset(&map[first], 1, units);
	return true;
}

static void arenas_are_as_the_bitmap_says(void **state)
{
	enum { SLOTS = 300 };
	struct box b = box_open(256, 256, 77);
	struct vmem *v = vmem_create(b.b_vm, "model", V_BASE, V_UNITS / 2 * V_QUANTUM, V_QUANTUM);
	struct vrange slot[SLOTS] = { 0 };
	bool map[V_UNITS] = { 0 };
	unsigned failed = 0;
	uint64_t inuse = 0;

	(void)state;
	assert_non_null(v);
	assert_true(vmem_add(v, V_BASE + V_UNITS / 2 * V_QUANTUM, V_UNITS / 2 * V_QUANTUM));
	assert_false(vmem_add(v, V_BASE, V_QUANTUM));
	for (unsigned step = 0; step < 30000; step++) {
		struct vrange *r = &slot[rnd(SLOTS)];
		uint64_t units = rnd(8) ? 1 + rnd(12) : 1 + rnd(100),
			 size = units * V_QUANTUM - rnd(V_QUANTUM);

		if (r->size != 0) {
			uint64_t first = (r->addr - V_BASE) / V_QUANTUM;

			vmem_free(v, r->addr, r->size);
			units = (r->size + V_QUANTUM - 1) / V_QUANTUM;
			memset(&map[first], 0, units);
			inuse -= units * V_QUANTUM;
			r->size = 0;
			continue;
		}
		if (!vmem_take(v, map, r, units, size)) {
			failed++;
			continue;
		}
		inuse += units * V_QUANTUM;
		r->size = size;
		assert_int_equal(vmem_inuse(v), inuse);
	}
	assert_true(failed > 100);
	for (unsigned i = 0; i < SLOTS; i++) {
		if (slot[i].size != 0)
			vmem_free(v, slot[i].addr, slot[i].size);
	}
	assert_int_equal(vmem_inuse(v), 0);
	/* All segments are joined: the whole span can be allocated at once. */
	assert_true(vmem_alloc(v, V_UNITS / 2 * V_QUANTUM, KM_NOSLEEP, &slot[0].addr));
	vmem_free(v, slot[0].addr, V_UNITS / 2 * V_QUANTUM);
	vmem_destroy(v);
	box_close(&b);
}

static void full_arenas_and_odd_sizes_are_refused(void **state)
{
	struct box b = box_open(256, 256, 7);
	struct vmem *v = vmem_create(b.b_vm, "top", UINT64_MAX - 0xffff, 0x10000, 0x1000);
	uint64_t a[16], zero;

	(void)state;
	for (unsigned i = 0; i < 16; i++)
		assert_true(vmem_alloc(v, 0x1000, KM_NOSLEEP, &a[i]));
	assert_false(vmem_alloc(v, 1, KM_NOSLEEP, &zero));
	assert_false(vmem_alloc(v, 0, KM_NOSLEEP, &zero));
	for (unsigned i = 0; i < 16; i++)
		vmem_free(v, a[i], 0x1000);
	assert_false(vmem_alloc(v, UINT64_MAX, KM_NOSLEEP, &zero));
	vmem_destroy(v);
	/* Zero is an address like any other; thousands of segments make the hash grow. */
	v = vmem_create(b.b_vm, "ids", 0, 4096, 1);
	for (unsigned i = 0; i < 4096; i++)
		assert_true(vmem_alloc(v, 1, KM_NOSLEEP, &zero));
	assert_false(vmem_alloc(v, 1, KM_NOSLEEP, &zero));
	assert_int_equal(vmem_inuse(v), 4096);
	for (unsigned i = 0; i < 4096; i++)
		vmem_free(v, i, 1);
	assert_true(vmem_alloc(v, 4096, KM_NOSLEEP, &zero));
	assert_int_equal(zero, 0);
	vmem_free(v, 0, 4096);
	vmem_destroy(v);
	box_close(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(caches_and_arenas_are_as_the_model_says),
		cmocka_unit_test(objects_are_aligned_and_empty_slabs_reaped),
		cmocka_unit_test(a_constructor_that_fails_leaves_nothing),
#ifndef NDEBUG
		cmocka_unit_test(misuse_of_caches_is_found),
#endif
		cmocka_unit_test(arenas_are_as_the_bitmap_says),
		cmocka_unit_test(full_arenas_and_odd_sizes_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
