/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The calls that inform the sanitizers about fibers: AddressSanitizer about the stack in use,
 * ThreadSanitizer about the running logical thread. Without a sanitizer all these functions are
 * empty. fiber_san_leave is called just before a switch, fiber_san_arrive first after it, in the
 * new fiber.
 */
#ifndef QUIRE_FIBER_SAN_H
#define QUIRE_FIBER_SAN_H

#include <stdbool.h>
#include <stddef.h>

#ifdef __has_feature
#if __has_feature(address_sanitizer)
#define SIM_ASAN 1
#endif
#if __has_feature(thread_sanitizer)
#define SIM_TSAN 1
#endif
#endif
#ifdef __SANITIZE_ADDRESS__
#define SIM_ASAN 1
#endif
#ifdef __SANITIZE_THREAD__
#define SIM_TSAN 1
#endif

struct fiber_san {
	const void *fs_stack;
	size_t fs_size;
	void *fs_fake; /* AddressSanitizer's data while the fiber does not run */
	void *fs_tsan;
};

#if defined(SIM_ASAN) || defined(SIM_TSAN)
#include <pthread.h>
#endif
#ifdef SIM_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif
#ifdef SIM_TSAN
#include <sanitizer/tsan_interface.h>
#endif

static inline void fiber_san_init(struct fiber_san *fs, const void *stack, size_t size)
{
	*fs = (struct fiber_san){ .fs_stack = stack, .fs_size = size };
#ifdef SIM_TSAN
	fs->fs_tsan = __tsan_create_fiber(0);
#endif
}

/* The fiber is the calling thread itself. */
static inline void fiber_san_init_thread(struct fiber_san *fs)
{
	*fs = (struct fiber_san){ 0 };
#ifdef SIM_ASAN
	pthread_attr_t attr;
	void *stack;

	if (pthread_getattr_np(pthread_self(), &attr) == 0) {
		if (pthread_attr_getstack(&attr, &stack, &fs->fs_size) == 0)
			fs->fs_stack = stack;
		(void)pthread_attr_destroy(&attr);
	}
#endif
#ifdef SIM_TSAN
	fs->fs_tsan = __tsan_get_current_fiber();
#endif
}

/*
 * Call it before the stack is unmapped. The fiber never returned from its functions, so their red zones are still marked,
 * and the marks would outlive the mapping: the next mapping at that address would have holes that may not be written.
 */
static inline void fiber_san_fini(struct fiber_san *fs)
{
	(void)fs;
#ifdef SIM_ASAN
	__asan_unpoison_memory_region(fs->fs_stack, fs->fs_size);
#endif
#ifdef SIM_TSAN
	__tsan_destroy_fiber(fs->fs_tsan);
#endif
}

/* ends: the leaving fiber never comes back. */
static inline void fiber_san_leave(struct fiber_san *me, const struct fiber_san *to, bool ends)
{
	(void)me;
	(void)to;
	(void)ends;
#ifdef SIM_ASAN
	__sanitizer_start_switch_fiber(ends ? NULL : &me->fs_fake, to->fs_stack, to->fs_size);
#endif
#ifdef SIM_TSAN
	__tsan_switch_to_fiber(to->fs_tsan, 0);
#endif
}

static inline void fiber_san_arrive(struct fiber_san *me)
{
	(void)me;
#ifdef SIM_ASAN
	__sanitizer_finish_switch_fiber(me->fs_fake, NULL, NULL);
#endif
}
#endif
