/* SPDX-License-Identifier: BSD-2-Clause */
/* A debugger's access to a space (as_peek, as_poke): reading, writing, breakpoints that stay private; and core files (as_core). */
#include "tests/vm/segs.h"

#include <elf.h>

static const unsigned char trap = 0xcc;

/*
 * A breakpoint in text that two spaces share does not change the other space, the file or the
 * protection.
 */
static void a_breakpoint_is_private(void **state)
{
	(void)state;
	for (unsigned linux_like = 0; linux_like < 2; linux_like++) {
		struct sim_config cfg = { .frames = 128, .ncpus = 2 };
		struct as *as, *other, *child;
		unsigned char was, now = 0;
		struct vnode *text;
		struct sys s;

		if (linux_like)
			sim_config_linux(&cfg);
		sys_init_cfg(&s, &cfg, 64);
		as = new_as(&s);
		other = new_as(&s);
		text = new_file(&s, 4 * PG, 0x1000);
		assert_int_equal(map_file(as, BASE, 4, text, 0, PROT_R | PROT_X, 0), VM_OK);
		assert_int_equal(map_file(other, BASE, 4, text, 0, PROT_R | PROT_X, 0), VM_OK);
		assert_int_equal(get(&s, as, BASE + PG), 0x1001);
		assert_int_equal(get(&s, other, BASE + PG), 0x1001);
		assert_int_equal(as_peek(as, BASE + PG, &was, 1), VM_OK);
		assert_int_equal(was, 1);
		assert_int_equal(as_poke(as, BASE + PG, &trap, 1), VM_OK);
		assert_int_equal(get(&s, as, BASE + PG), 0x10cc);
		assert_int_equal(get(&s, other, BASE + PG), 0x1001);
		assert_int_equal(((uint8_t *)sim_disk_data(text))[PG], 1);
		assert_int_equal(try_put(&s, as, BASE + PG, 1),
		    VM_PROT); /* the program still may not write the page */
		assert_int_equal(sim_exec(s.m, as, 0, BASE + PG), VM_OK);
		/*
		 * the breakpoint survives page-out, and a fork has it, too, until either process
		 * changes it
		 */
		assert_true(as_swapout(as) > 0);
		assert_int_equal(get(&s, as, BASE + PG), 0x10cc);
		assert_int_equal(as_dup(as, &child), VM_OK);
		assert_int_equal(as_poke(as, BASE + PG, &was, 1), VM_OK);
		assert_int_equal(get(&s, as, BASE + PG), 0x1001);
		assert_int_equal(as_peek(child, BASE + PG, &now, 1), VM_OK);
		assert_int_equal(now, trap);
		assert_int_equal(as_poke(as, BASE + 4 * PG - 1, "ab", 2),
		    VM_NOMAP); /* its first byte was written */
		assert_int_equal(as_peek(as, BASE + 4 * PG - 1, &now, 1), VM_OK);
		assert_int_equal(now, 'a');
		assert_int_equal(as_seal(as, BASE, PG), VM_OK);
		assert_int_equal(as_poke(as, BASE, &trap, 1), VM_ACCESS);
		assert_sound(&s);
		as_free(child);
		as_free(other);
		as_free(as);
		vnode_rele(text);
		sys_fini(&s);
	}
}

static void shared_memory_is_written_by_right_only(void **state)
{
	struct sys s;
	struct as *as;
	struct vnode *file;
	uint64_t v = 5;

	(void)state;
	sys_init(&s, 128, 64);
	as = new_as(&s);
	file = new_file(&s, 4 * PG, 7);
	assert_int_equal(map_file(as, BASE, 4, file, 0, PROT_R, SEGVN_SHARED), VM_OK);
	assert_int_equal(as_poke(as, BASE, &v, 8), VM_ACCESS);
	assert_int_equal(as_setprot(as, BASE, PG, RW), VM_OK);
	assert_int_equal(as_poke(as, BASE, &v, 8), VM_OK);
	assert_int_equal(as_sync(as, BASE, PG, 0), VM_OK);
	assert_int_equal(*(uint64_t *)sim_disk_data(file), 5);
	/*
	 * without rights: a debugger can still read and write private memory; reading leaves it
	 * unchanged
	 */
	assert_int_equal(map_anon(as, BASE + MB, 4, 0), VM_OK);
	put(&s, as, BASE + MB, 11);
	assert_int_equal(as_setprot(as, BASE + MB, 4 * PG, 0), VM_OK);
	assert_int_equal(as_peek(as, BASE + MB, &v, 8), VM_OK);
	assert_int_equal(v, 11);
	assert_int_equal(as_peek(as, BASE + MB + 2 * PG, &v, 8), VM_OK);
	assert_int_equal(v, 0);
	assert_int_equal(vm_statistics(s.vm)->zfod, 1);
	v = 12;
	assert_int_equal(as_poke(as, BASE + MB + PG, &v, 8), VM_OK);
	assert_int_equal(try_get(&s, as, BASE + MB + PG, &v), VM_PROT);
	assert_int_equal(as_setprot(as, BASE + MB, 4 * PG, PROT_R), VM_OK);
	assert_int_equal(get(&s, as, BASE + MB + PG), 12);
	assert_sound(&s);
	as_free(as);
	vnode_rele(file);
	sys_fini(&s);
}

struct file {
	uint8_t *b;
	uint64_t size, room, fail_at, written;
};

static bool store(void *arg, uint64_t off, const void *buf, uint64_t len)
{
	struct file *f = arg;

	if (f->fail_at != 0 && --f->fail_at == 0)
		return false;
	assert_true(off + len <= f->room);
	memcpy(f->b + off, buf, len);
	f->size = off + len > f->size ? off + len : f->size;
	f->written += len;
	return true;
}

/* The core file's contents at an address. */
static const uint8_t *in_core(const struct file *f, vaddr_t va, uint32_t *flags)
{
	const Elf64_Ehdr *h = (const void *)f->b;
	const Elf64_Phdr *p = (const void *)(f->b + h->e_phoff);

	for (unsigned i = 0; i < h->e_phnum; i++) {
		if (p[i].p_type != PT_LOAD || va - p[i].p_vaddr >= p[i].p_memsz)
			continue;
		*flags = p[i].p_flags;
		return va - p[i].p_vaddr < p[i].p_filesz
		    ? f->b + p[i].p_offset + (va - p[i].p_vaddr)
		    : NULL;
	}
	fail_msg("not in the core file: %llx", (unsigned long long)va);
	return NULL;
}

/* The core file that the next test writes: headers, notes, the space's own pages with their rights, and no others. */
static void expect_core(const struct file *f, const char *notes, size_t noteslen)
{
	const Elf64_Ehdr *h = (const void *)f->b;
	const Elf64_Phdr *p;
	uint32_t flags;

	assert_memory_equal(h->e_ident, ELFMAG, SELFMAG);
	assert_int_equal(h->e_type, ET_CORE);
	assert_int_equal(h->e_machine, EM_X86_64);
	p = (const void *)(f->b + h->e_phoff);
	assert_int_equal(p[0].p_type, PT_NOTE);
	assert_memory_equal(f->b + p[0].p_offset, notes, noteslen);
	for (unsigned i = 0; i < 100; i++) {
		uint64_t want = i < 60 ? 1000 + i : 0;

		assert_memory_equal(in_core(f, BASE + i * PG, &flags), &want, 8);
	}
	assert_int_equal(flags, PF_R | PF_W);
	assert_memory_equal(in_core(f, BASE + MB + 3 * PG, &flags), &(uint64_t){ 0xabc }, 8);
	assert_memory_equal(in_core(f, BASE + 3 * MB, &flags), &(uint64_t){ 0xdef }, 8);
	assert_int_equal(flags, 0);
	assert_null(in_core(f, BASE + 4 * MB, &flags));
	/* private pages and the headers, no zeroes, no file pages */
	assert_in_range(f->written, 62 * PG, 63 * PG);
}

static void a_core_file_has_all_that_is_nowhere_else(void **state)
{
	static const char notes[] = "the caller's notes";
	struct file f = { .room = 64 * MB };
	struct as_core to = { .ac_write = store,
		.ac_arg = &f,
		.ac_notes = notes,
		.ac_noteslen = sizeof(notes),
		.ac_machine = EM_X86_64 };
	struct as *as, *child;
	struct vnode *file;
	uint64_t zfod, n;
	struct sys s;

	(void)state;
	f.b = calloc(1, f.room);
	sys_init(&s, 128, 256);
	as = new_as(&s);
	file = new_file(&s, 8 * PG, 0x500);
	assert_int_equal(map_anon(as, BASE, 100, 0),
	    VM_OK); /* some of it in memory, some swapped out, some untouched */
	fill(&s, as, BASE, 60, 1000);
	assert_int_equal(as_advise(as, BASE, 30 * PG, ADV_PAGEOUT), VM_OK);
	assert_int_equal(map_file(as, BASE + MB, 8, file, 0, RW, 0), VM_OK);
	put(&s, as, BASE + MB + 3 * PG, 0xabc);
	assert_int_equal(map_file(as, BASE + 2 * MB, 8, file, 0, PROT_R, SEGVN_SHARED), VM_OK);
	assert_int_equal(map_anon(as, BASE + 3 * MB, 4, 0), VM_OK);
	put(&s, as, BASE + 3 * MB, 0xdef);
	assert_int_equal(as_setprot(as, BASE + 3 * MB, 4 * PG, 0), VM_OK);
	assert_int_equal(as_map(as, BASE + 4 * MB, PG, seghole_create, NULL), VM_OK);
	assert_int_equal(as_dup(as, &child), VM_OK);
	zfod = vm_statistics(s.vm)->zfod;
	assert_int_equal(as_core(child, &to), VM_OK);
	assert_int_equal(vm_statistics(s.vm)->zfod, zfod); /* nothing was touched */
	expect_core(&f, notes, sizeof(notes));
	/* a full disk at any moment */
	for (n = 1;; n++) {
		f.fail_at = n;
		if (as_core(child, &to) == VM_OK)
			break;
		assert_sound(&s);
	}
	assert_true(n > 60);
	as_free(child);
	as_free(as);
	vnode_rele(file);
	sys_fini(&s);
	free(f.b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_breakpoint_is_private),
		cmocka_unit_test(shared_memory_is_written_by_right_only),
		cmocka_unit_test(a_core_file_has_all_that_is_nowhere_else),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
