/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The vnode of a regular file (file_vnode.c) without a core above it: the results and effects of
 * vo_start at the end of the file. All inputs are constants.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "store/file_vnode.h"
#include "vm/impl.h"

#define PAGE VM_PAGESIZE
#define MOST 6u /* pages of a request */

static const uint64_t sizes[] = { 1, 100, PAGE - 1, PAGE, PAGE + 1, 2 * PAGE - 8, 3 * PAGE + 17,
	4 * PAGE };

static uint8_t pages[MOST][PAGE];
static struct vm vm; /* vnode_init takes a number from the system; no other part is used */
static unsigned done;

static void count_done(struct vm_io *io)
{
	(void)io;
	done++;
}

static uint8_t byte_at(uint64_t at) { return (uint8_t)(at % 251 + 1); }

/* Makes a file of that many bytes, none of which is 0. */
static void open_file(struct file_vnode *fv, uint64_t size)
{
	fv->fv_fd = memfd_create("quire-file", MFD_CLOEXEC);
	assert_true(fv->fv_fd >= 0);
	for (uint64_t at = 0; at < size; at++) {
		uint8_t b = byte_at(at);

		assert_int_equal(pwrite(fv->fv_fd, &b, 1, (off_t)at), 1);
	}
	file_vnode_init(fv, &vm);
}

/* One request from a page on, into or out of pages[]. */
static struct vm_io ask(struct file_vnode *fv, enum vm_iop op, uint64_t first, uint32_t n)
{
	struct vm_io io = {
		.io_op = op, .io_npages = n, .io_off = first * PAGE, .io_done = count_done
	};

	for (uint32_t i = 0; i < n; i++)
		io.io_buf[i] = pages[i];
	done = 0;
	fv->fv_vnode.v_ops->vo_start(&fv->fv_vnode, &io);
	assert_int_equal(done, 1);
	return io;
}

/*
 * A read fills the frame, whatever it held before, with bytes of the file and zeroes to the end of
 * its last page; frames behind that are not touched.
 */
static void the_last_page_ends_in_zeroes(void **state)
{
	(void)state;
	for (unsigned s = 0; s < sizeof sizes / sizeof sizes[0]; s++)
		for (uint64_t first = 0; first * PAGE < sizes[s]; first++) {
			uint64_t size = sizes[s], last = (size + PAGE - 1) / PAGE;
			struct file_vnode fv;

			open_file(&fv, size);
			memset(pages, 0xff, sizeof pages);
			struct vm_io io = ask(&fv, VM_IO_READ, first, MOST);
			assert_int_equal(io.io_ok, last - first);
			assert_int_equal(io.io_err, VM_EOF);
			for (uint64_t at = 0; at < sizeof pages; at++) {
				uint64_t in_file = first * PAGE + at;
				uint8_t behind = in_file < last * PAGE ? 0 : 0xff;

				assert_int_equal(pages[at / PAGE][at % PAGE],
				    in_file < size ? byte_at(in_file) : behind);
			}
			assert_int_equal(close(fv.fv_fd), 0);
		}
}

/*
 * Bytes of the last page behind the end are dropped: the file keeps its size, and after growth it
 * has zeroes there.
 */
static void what_is_written_behind_the_end_is_dropped(void **state)
{
	(void)state;
	for (unsigned s = 0; s < sizeof sizes / sizeof sizes[0]; s++) {
		struct file_vnode fv;
		struct stat st;

		open_file(&fv, sizes[s]);
		memset(pages, 0xee, sizeof pages);
		struct vm_io io = ask(&fv, VM_IO_WRITE, 0, MOST);
		assert_true(io.io_ok >= (sizes[s] + PAGE - 1) / PAGE);
		assert_int_equal(fstat(fv.fv_fd, &st), 0);
		assert_int_equal(st.st_size, sizes[s]);
		assert_int_equal(ftruncate(fv.fv_fd, MOST * PAGE), 0);
		io = ask(&fv, VM_IO_READ, 0, MOST);
		assert_int_equal(io.io_ok, MOST);
		assert_int_equal(io.io_err, VM_OK);
		for (uint64_t at = 0; at < sizeof pages; at++)
			assert_int_equal(pages[at / PAGE][at % PAGE], at < sizes[s] ? 0xee : 0);
		assert_int_equal(close(fv.fv_fd), 0);
	}
}

/* A page wholly behind the end cannot be read; a write of such a page succeeds without effect. */
static void a_page_behind_the_end(void **state)
{
	struct file_vnode fv;

	(void)state;
	open_file(&fv, PAGE + 1);
	memset(pages, 0xff, sizeof pages);
	struct vm_io io = ask(&fv, VM_IO_READ, 2, 1);
	assert_int_equal(io.io_ok, 0);
	assert_int_equal(io.io_err, VM_EOF);
	assert_int_equal(pages[0][0], 0xff);
	io = ask(&fv, VM_IO_WRITE, 2, 1);
	assert_int_equal(io.io_ok, 1);
	assert_int_equal(io.io_err, VM_OK);
	assert_int_equal(fv.fv_vnode.v_ops->vo_size(&fv.fv_vnode), PAGE + 1);
	assert_int_equal(close(fv.fv_fd), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_last_page_ends_in_zeroes),
		cmocka_unit_test(what_is_written_behind_the_end_is_dropped),
		cmocka_unit_test(a_page_behind_the_end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
