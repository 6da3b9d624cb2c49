/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * ext2: inodes, blocks, allocation. Blocks of 4 KiB, so that a block is a page.
 *
 * Metadata (group descriptors, bitmaps, inode tables, blocks of indirection) is read and written
 * through the page cache of the disk's own vnode; a file's and a directory's contents through the
 * page cache of its inode's vnode, whose I/O goes to the disk's blocks directly. Both caches are
 * the vm's, so files occupy the memory that programs leave free.
 *
 * Block map: the numbers of a file's blocks are in memory (4 bytes for 4 KiB) from the first use of
 * its pages on, so that page-out of a file's page needs neither metadata nor memory. The map is
 * made, and grows, with i_lock held, before a page of the new range exists; I/O reads the map's
 * words under e_maplock. Blocks are allocated by write(2), or when a hole is mapped for shared
 * writing. A block that was never written (FRESH) reads as zeroes, whatever the disk has there.
 *
 * Write-back: page-out, fsync and write-behind write file pages; then ext2_flush puts the inode and
 * its indirection into the disk's pages. A crash may lose data that was not synced; e2fsck then
 * repairs the counts. There is no journal.
 *
 * Locks: i_lock, fs_lock (allocation, tables), e_maplock (spins).
 * Left out: block sizes other than 4 KiB, triple indirection (files end at 4 GiB), extended attributes, hashed directories.
 */
#include "kernel/fs/ext2.h"

struct ext2_fs ext2;

#define INCOMPAT_FILETYPE 2u
#define RO_COMPAT_KNOWN 3u /* sparse superblocks, large files */

/* ---- metadata, through the disk's pages ---- */
#define NOMEM_TRIES 200u

int ext2_pages_read(struct vnode *vp, uint64_t off, void *buf, uint64_t len)
{
	enum vm_err e = VM_NOMEM;

	for (unsigned i = 0;
	     (e = vnode_read(vp, off, buf, len, NULL)) == VM_NOMEM && i < NOMEM_TRIES; i++)
		thread_pause();
	return e == VM_EOF ? -EIO : err_of(e);
}

int ext2_pages_write(struct vnode *vp, uint64_t off, const void *buf, uint64_t len)
{
	enum vm_err e;

	for (unsigned i = 0;
	     (e = vnode_write(vp, off, buf, len, NULL)) == VM_NOMEM && i < NOMEM_TRIES; i++)
		thread_pause();
	return e == VM_EOF ? -EIO : err_of(e);
}

static int meta_read(uint64_t block, uint32_t off, void *buf, uint32_t len)
{
	return ext2_pages_read(ext2.fs_vnode, block * BLOCK + off, buf, len);
}

static int meta_write(uint64_t block, uint32_t off, const void *buf, uint32_t len)
{
	return ext2_pages_write(ext2.fs_vnode, block * BLOCK + off, buf, len);
}

/* ---- allocation: fs_lock ---- */
/*
 * Finds and sets a 0 bit of a bitmap of n bits, from `from` on, then from the start. -ENOSPC: there is
 * none; or another negative error.
 */
static int64_t take_bit(uint32_t bitmap, uint32_t n, uint32_t from)
{
	uint8_t *map = kalloc(BLOCK);
	int64_t found = -ENOSPC;
	int err = map == NULL ? -ENOMEM : meta_read(bitmap, 0, map, BLOCK);

	if (err != 0) {
		kfree(map, BLOCK);
		return err;
	}
	for (uint32_t k = 0; k < n && found < 0; k++) {
		uint32_t i = (from + k) % n;

		if ((i & 7) == 0 && map[i / 8] == 0xff && k + 8 <= n) {
			k += 7;
			continue;
		}
		if (!(map[i / 8] & 1u << (i & 7)))
			found = i;
	}
	if (found >= 0) {
		map[found / 8] = (uint8_t)(map[found / 8] | 1u << (found & 7));
		if ((err = meta_write(bitmap, (uint32_t)(found / 8), &map[found / 8], 1)) != 0)
			found = err;
	}
	kfree(map, BLOCK);
	return found;
}

static void clear_bit(uint32_t bitmap, uint32_t i)
{
	uint8_t byte;

	if (meta_read(bitmap, i / 8, &byte, 1) != 0)
		return;
	byte = (uint8_t)(byte & ~(1u << (i & 7)));
	(void)meta_write(bitmap, i / 8, &byte, 1);
}

static uint32_t group_blocks(uint32_t g)
{
	uint32_t first = ext2.fs_super.s_first_data + g * ext2.fs_super.s_blocks_per_group;
	uint32_t left = ext2.fs_super.s_blocks - first;

	return left < ext2.fs_super.s_blocks_per_group ? left : ext2.fs_super.s_blocks_per_group;
}

/* Allocates a block. -ENOSPC: the disk is full; or another negative error. */
static int block_alloc(uint32_t *blockp)
{
	const struct ext2_super *s = &ext2.fs_super;
	uint32_t goal, g0, block = 0;
	int err = -ENOSPC;

	mach_mutex_enter(&ext2.fs_lock);
	goal = ext2.fs_goal - s->s_first_data;
	g0 = goal / s->s_blocks_per_group % ext2.fs_ngroups;
	for (uint32_t k = 0; k < ext2.fs_ngroups && err == -ENOSPC; k++) {
		uint32_t g = (g0 + k) % ext2.fs_ngroups;
		int64_t bit;

		if (ext2.fs_group[g].g_free_blocks == 0)
			continue;
		bit = take_bit(ext2.fs_group[g].g_block_bitmap, group_blocks(g),
		    k == 0 ? goal % s->s_blocks_per_group : 0);
		err = bit < 0 ? (int)bit : 0;
		if (err != 0)
			continue;
		block = s->s_first_data + g * s->s_blocks_per_group + (uint32_t)bit;
		ext2.fs_group[g].g_free_blocks--;
		ext2.fs_super.s_free_blocks--;
		ext2.fs_goal = block + 1 < s->s_blocks ? block + 1 : s->s_first_data;
		ext2.fs_dirty = true;
	}
	mach_mutex_exit(&ext2.fs_lock);
	*blockp = block;
	return err;
}

static void block_free(uint32_t block)
{
	uint32_t i;

	block &= ~FRESH;
	if (block == 0)
		return;
	mach_mutex_enter(&ext2.fs_lock);
	i = block - ext2.fs_super.s_first_data;
	clear_bit(ext2.fs_group[i / ext2.fs_super.s_blocks_per_group].g_block_bitmap,
	    i % ext2.fs_super.s_blocks_per_group);
	ext2.fs_group[i / ext2.fs_super.s_blocks_per_group].g_free_blocks++;
	ext2.fs_super.s_free_blocks++;
	ext2.fs_dirty = true;
	mach_mutex_exit(&ext2.fs_lock);
}

/* ---- the block map ---- */
static uint32_t blocks_for(uint64_t size) { return (uint32_t)((size + BLOCK - 1) / BLOCK); }

static uint32_t inds_for(uint32_t blocks)
{
	if (blocks <= NDIRECT)
		return 0;
	if (blocks <= NDIRECT + PER_BLOCK)
		return 1;
	return 2 + (blocks - NDIRECT - PER_BLOCK + PER_BLOCK - 1) / PER_BLOCK;
}

/*
 * Makes an array of words longer and keeps the old words; grows by powers of two, so that this is
 * rare.
 */
static bool array_grow(uint32_t **array, uint32_t *n, uint32_t want, struct mach_mutex *lock)
{
	uint32_t more = *n < 16 ? 16 : *n, old = *n;
	uint32_t *fresh, *was = *array;

	if (want <= *n)
		return true;
	while (more < want)
		more *= 2;
	if ((fresh = kzalloc(more * sizeof(*fresh))) == NULL)
		return false;
	if (lock != NULL)
		mach_mutex_enter(lock);
	if (old > 0)
		memcpy(fresh, was, old * sizeof(*fresh));
	*array = fresh;
	*n = more;
	if (lock != NULL)
		mach_mutex_exit(lock);
	kfree(was, old * sizeof(*was));
	return true;
}

/*
 * Makes room in the map for n blocks, and for the blocks of indirection that they need. 0 or a
 * negative error.
 */
static int map_grow(struct ext2_inode *e, uint32_t blocks)
{
	if (blocks > NDIRECT + PER_BLOCK + PER_BLOCK * PER_BLOCK)
		return -EFBIG;
	return array_grow(&e->e_map, &e->e_nmap, blocks, &e->e_maplock) &&
		array_grow(&e->e_ind, &e->e_nind, inds_for(blocks), NULL)
	    ? 0
	    : -ENOMEM;
}

static int map_load(struct ext2_inode *e, const uint32_t *block)
{
	uint32_t n = blocks_for(e->e_inode.i_size), ind = inds_for(n);
	int err = map_grow(e, n);

	if (err != 0)
		return err;
	for (uint32_t i = 0; i < NDIRECT && i < n; i++)
		e->e_map[i] = block[i];
	if (ind > 0 && (e->e_ind[0] = block[12]) != 0)
		err = meta_read(block[12], 0, e->e_map + NDIRECT,
		    4 * (n - NDIRECT < PER_BLOCK ? n - NDIRECT : PER_BLOCK));
	if (ind > 1 && (e->e_ind[1] = block[13]) != 0 && err == 0)
		err = meta_read(block[13], 0, e->e_ind + 2, 4 * (ind - 2));
	for (uint32_t k = 2; k < ind && err == 0; k++) {
		uint32_t first = NDIRECT + PER_BLOCK * (k - 1), left = n - first;

		if (e->e_ind[k] != 0)
			err = meta_read(e->e_ind[k], 0, e->e_map + first,
			    4 * (left < PER_BLOCK ? left : PER_BLOCK));
	}
	return err;
}

static uint32_t map_word(struct ext2_inode *e, uint32_t i)
{
	uint32_t w;

	mach_mutex_enter(&e->e_maplock);
	w = i < e->e_nmap ? e->e_map[i] : 0;
	mach_mutex_exit(&e->e_maplock);
	return w;
}

static void map_set(struct ext2_inode *e, uint32_t i, uint32_t w)
{
	mach_mutex_enter(&e->e_maplock);
	e->e_map[i] = w;
	mach_mutex_exit(&e->e_maplock);
}

/* Frees the file's blocks behind the first `keep` blocks. i_lock held. */
static void free_behind(struct ext2_inode *e, uint32_t keep)
{
	struct inode *in = &e->e_inode;

	for (uint32_t i = keep; i < e->e_nmap; i++) {
		uint32_t b = map_word(e, i);

		if (b == 0)
			continue;
		map_set(e, i, 0);
		block_free(b);
		in->i_blocks -= 8;
	}
	for (uint32_t k = inds_for(keep); k < e->e_nind; k++) {
		if (e->e_ind[k] == 0)
			continue;
		block_free(e->e_ind[k]);
		e->e_ind[k] = 0;
		in->i_blocks -= 8;
	}
}

/*
 * Allocates blocks for the range, and blocks of indirection. A negative error: some blocks may have
 * been allocated.
 */
static int take_blocks(struct ext2_inode *e, uint32_t first, uint32_t end)
{
	struct inode *in = &e->e_inode;
	int err;

	for (uint32_t k = 0; k < inds_for(end); k++) {
		if (e->e_ind[k] != 0)
			continue;
		if ((err = block_alloc(&e->e_ind[k])) != 0)
			return err;
		in->i_blocks += 8;
		in->i_dirty = true;
	}
	for (uint32_t i = first; i < end; i++) {
		uint32_t b;

		if (map_word(e, i) != 0)
			continue;
		if ((err = block_alloc(&b)) != 0)
			return err;
		map_set(e, i, b | FRESH);
		in->i_blocks += 8;
		in->i_dirty = true;
	}
	return 0;
}

int ext2_extend(struct inode *in, uint64_t off, uint64_t len)
{
	struct ext2_inode *e = ext2_of(in);
	uint32_t end;
	int err;

	if (len == 0)
		return 0;
	/* mappings may also write to the blocks in between */
	if (in->i_filled && off > in->i_size) {
		len += off - in->i_size;
		off = in->i_size;
	}
	if (off > FILE_BYTES_MOST || len > FILE_BYTES_MOST - off)
		return -EFBIG;
	end = blocks_for(off + len);
	if ((err = map_grow(e, end)) != 0)
		return err;
	if ((err = take_blocks(e, (uint32_t)(off / BLOCK), end)) != 0)
		free_behind(e, blocks_for(in->i_size));
	return err;
}

/* Makes the file longer, by a hole unless mappings may write to the new part. */
static int grow_file(struct ext2_inode *e, uint64_t size)
{
	struct inode *in = &e->e_inode;

	return in->i_filled ? ext2_extend(in, in->i_size, size - in->i_size)
			    : map_grow(e, blocks_for(size));
}

int ext2_truncate(struct inode *in, uint64_t size)
{
	struct ext2_inode *e = ext2_of(in);
	bool shorter = size < in->i_size;
	int err;

	if (inode_type(in) == S_IFLNK && e->e_fast)
		return 0;
	if (size > FILE_BYTES_MOST)
		return -EFBIG;
	if (!shorter && (err = grow_file(e, size)) != 0)
		return err;
	in->i_size = size;
	in->i_mtime = in->i_ctime = vfs_now();
	in->i_dirty = true;
	if (shorter) {
		pvn_truncate(the_vm, &in->i_vnode, size);
		free_behind(e, blocks_for(size));
	}
	return 0;
}

/* ---- I/O of a file's pages: under the vm's locks; takes no memory ---- */
static void file_start(struct vnode *vp, struct vm_io *io)
{
	struct ext2_inode *e = ext2_of(inode_of(vp));
	uint32_t block[VM_IO_PAGES], first = (uint32_t)vm_btop(io->io_off);
	bool hole = false;

	for (uint32_t i = 0; i < io->io_npages; i++) {
		uint32_t w = map_word(e, first + i);

		block[i] = w & ~FRESH;
		if (io->io_op == VM_IO_READ && (w == 0 || (w & FRESH))) {
			memset(io->io_buf[i], 0, VM_PAGESIZE);
			block[i] = BLK_NONE;
		} else if (w == 0) {
			/* written through a mapping; mmap should have allocated the block */
			hole = true;
		} else if (w & FRESH) {
			map_set(e, first + i, w & ~FRESH);
		}
	}
	io->io_priv[1] = !hole;
	if (!hole) {
		blk_start(ext2.fs_disk, io, block);
		return;
	}
	io->io_err = VM_NOSWAP;
	io->io_ok = 0;
	io->io_done(io);
}

/*
 * The waiting thread is the thread that started the I/O and has the pages locked: it also zeroes
 * the bytes behind the end of the file.
 */
static void file_poll(struct vnode *vp, struct vm_io *io)
{
	uint64_t size = inode_of(vp)->i_size, at;

	if (io == NULL || io->io_priv[1] == 0)
		return;
	blk_wait(ext2.fs_disk, io);
	at = size - io->io_off;
	if (io->io_op == VM_IO_READ && size > io->io_off && at < vm_ptob(io->io_npages) &&
	    (at & VM_PAGEMASK) != 0)
		memset((char *)io->io_buf[vm_btop(at)] + (at & VM_PAGEMASK), 0,
		    VM_PAGESIZE - (at & VM_PAGEMASK));
}

static void file_discard(struct vnode *vp, voff_t off, uint64_t len)
{
	(void)vp, (void)off, (void)len;
}

static enum vm_err file_sync(struct vnode *vp, voff_t off, uint64_t len)
{
	(void)vp, (void)off, (void)len;
	return VM_OK; /* fsync(2) flushes the disk after the inode */
}

static uint64_t file_size(struct vnode *vp) { return inode_of(vp)->i_size; }

static void file_inactive(struct vnode *vp)
{
	struct ext2_inode *e = ext2_of(inode_of(vp));

	kfree(e->e_map, e->e_nmap * sizeof(uint32_t));
	kfree(e->e_ind, e->e_nind * sizeof(uint32_t));
	mach_mutex_fini(&e->e_inode.i_lock);
	kfree(e, sizeof(*e));
}

static const struct vnode_ops ext2_vnode_ops = {
	.vo_name = "ext2",
	.vo_start = file_start,
	.vo_poll = file_poll,
	.vo_discard = file_discard,
	.vo_sync = file_sync,
	.vo_size = file_size,
	.vo_inactive = file_inactive,
};

/* ---- inodes ---- */
static void inode_where(uint64_t ino, uint64_t *block, uint32_t *off)
{
	uint32_t i = (uint32_t)ino - 1, per = ext2.fs_super.s_inodes_per_group,
		 size = ext2.fs_super.s_inode_size;
	uint64_t at = (uint64_t)(i % per) * size;

	*block = ext2.fs_group[i / per].g_inode_table + at / BLOCK;
	*off = (uint32_t)(at % BLOCK);
}

static const struct inode_ops ext2_file_ops, ext2_link_ops, ext2_special_ops; /* below */

static const struct inode_ops *ops_for(unsigned mode)
{
	switch (mode & S_IFMT) {
	case S_IFDIR: return ext2.fs_dir_ops;
	case S_IFLNK: return &ext2_link_ops;
	case S_IFREG: return &ext2_file_ops;
	default: return &ext2_special_ops;
	}
}

static struct ext2_inode *inode_new(uint64_t ino, unsigned mode)
{
	struct ext2_inode *e = kzalloc(sizeof(*e));

	if (e == NULL)
		return NULL;
	inode_init(&e->e_inode, &ext2_vnode_ops, ops_for(mode), EXT2_FS, ino, mode);
	mach_mutex_init(&e->e_maplock, MACH_RANK_SPIN + 20, "block map");
	return e;
}

static int inode_load(uint64_t ino, struct ext2_inode **ep)
{
	struct ext2_dinode d;
	struct ext2_inode *e;
	uint64_t block;
	uint32_t off;
	int err;

	inode_where(ino, &block, &off);
	if ((err = meta_read(block, off, &d, sizeof(d))) != 0)
		return err;
	if (d.d_mode == 0 || (e = inode_new(ino, d.d_mode)) == NULL)
		return d.d_mode == 0 ? -ENOENT : -ENOMEM;
	e->e_inode.i_uid = d.d_uid | (uint32_t)d.d_uid_high << 16;
	e->e_inode.i_gid = d.d_gid | (uint32_t)d.d_gid_high << 16;
	e->e_inode.i_nlink = d.d_nlink;
	e->e_inode.i_size =
	    d.d_size | ((d.d_mode & S_IFMT) == S_IFREG ? (uint64_t)d.d_size_high << 32 : 0);
	e->e_inode.i_blocks = d.d_blocks;
	e->e_inode.i_atime = d.d_atime;
	e->e_inode.i_mtime = d.d_mtime;
	e->e_inode.i_ctime = d.d_ctime;
	if (inode_type(&e->e_inode) == S_IFLNK && e->e_inode.i_size < sizeof(e->e_link) &&
	    d.d_blocks == 0) {
		e->e_fast = true;
		memcpy(e->e_link, d.d_block, sizeof(e->e_link));
	} else if (inode_type(&e->e_inode) == S_IFREG || inode_type(&e->e_inode) == S_IFDIR ||
	    inode_type(&e->e_inode) == S_IFLNK) {
		err = map_load(e, d.d_block);
	} else {
		e->e_inode.i_rdev = d.d_block[0] != 0 ? d.d_block[0] : d.d_block[1];
	}
	if (err != 0)
		vnode_rele(&e->e_inode.i_vnode);
	*ep = e;
	return err;
}

/* Every caller looks a name up and so holds vfs_lock: an inode is loaded once. */
int ext2_iget(uint64_t ino, struct inode **ip)
{
	struct ext2_inode *e;
	int err;

	if (ino == 0 || ino > ext2.fs_super.s_inodes)
		return -EIO;
	if ((*ip = icache_find(EXT2_FS, ino)) != NULL)
		return 0;
	if ((err = inode_load(ino, &e)) != 0)
		return err;
	*ip = &e->e_inode;
	icache_add(*ip);
	return 0;
}

/* Takes a free inode of the disk. -ENOSPC: there is none; or another negative error. */
static int ino_alloc(bool dir, uint64_t *ino)
{
	int err = -ENOSPC;

	mach_mutex_enter(&ext2.fs_lock);
	for (uint32_t g = 0; g < ext2.fs_ngroups && err == -ENOSPC; g++) {
		int64_t bit;

		if (ext2.fs_group[g].g_free_inodes == 0)
			continue;
		bit =
		    take_bit(ext2.fs_group[g].g_inode_bitmap, ext2.fs_super.s_inodes_per_group, 0);
		err = bit < 0 ? (int)bit : 0;
		if (err != 0)
			continue;
		*ino = (uint64_t)g * ext2.fs_super.s_inodes_per_group + (uint64_t)bit + 1;
		ext2.fs_group[g].g_free_inodes--;
		if (dir)
			ext2.fs_group[g].g_dirs++;
		ext2.fs_super.s_free_inodes--;
		ext2.fs_dirty = true;
	}
	mach_mutex_exit(&ext2.fs_lock);
	return err;
}

int ext2_ialloc(unsigned mode, struct inode **ip)
{
	struct ext2_inode *e =
	    inode_new(0, mode); /* before the disk's, which only a file gives back */
	int err = e == NULL ? -ENOMEM : ino_alloc((mode & S_IFMT) == S_IFDIR, &e->e_inode.i_ino);

	if (err != 0) {
		if (e != NULL)
			vnode_rele(&e->e_inode.i_vnode);
		return err;
	}
	e->e_inode.i_nlink = 0;
	e->e_inode.i_dirty = true;
	*ip = &e->e_inode;
	icache_add(*ip);
	return 0;
}

static void inode_free(struct inode *i)
{
	uint32_t n = (uint32_t)i->i_ino - 1, per = ext2.fs_super.s_inodes_per_group;

	mach_mutex_enter(&ext2.fs_lock);
	clear_bit(ext2.fs_group[n / per].g_inode_bitmap, n % per);
	ext2.fs_group[n / per].g_free_inodes++;
	if (inode_type(i) == S_IFDIR)
		ext2.fs_group[n / per].g_dirs--;
	ext2.fs_super.s_free_inodes++;
	ext2.fs_dirty = true;
	mach_mutex_exit(&ext2.fs_lock);
}

static int flush_indirection(struct ext2_inode *e, uint32_t *part)
{
	uint32_t n = blocks_for(e->e_inode.i_size), ind = inds_for(n);
	int err = 0;

	for (uint32_t k = 0; k < ind && err == 0; k++) {
		if (e->e_ind[k] == 0)
			continue;
		memset(part, 0, BLOCK);
		if (k == 1) {
			memcpy(part, e->e_ind + 2, 4 * (ind - 2));
		} else {
			uint32_t first = k == 0 ? NDIRECT : NDIRECT + PER_BLOCK * (k - 1);

			for (uint32_t i = 0; i < PER_BLOCK && first + i < n; i++)
				part[i] = map_word(e, first + i) & ~FRESH;
		}
		err = meta_write(e->e_ind[k], 0, part, BLOCK);
	}
	return err;
}

/*
 * A time of deletion that is smaller than a number of an inode would be a link of the list of orphans: if the clock stands in the first
 * hours of 1970, the time told is a later one.
 */
static uint32_t deletion_time(void)
{
	uint32_t now = vfs_now();

	return now > ext2.fs_super.s_inodes ? now : ext2.fs_super.s_inodes + 1;
}

static int flush_inode(struct ext2_inode *e)
{
	struct inode *i = &e->e_inode;
	struct ext2_dinode d;
	uint64_t block;
	uint32_t off;
	int err;

	inode_where(i->i_ino, &block, &off);
	if ((err = meta_read(block, off, &d, sizeof(d))) != 0)
		return err;
	d.d_mode = (uint16_t)i->i_mode;
	d.d_uid = (uint16_t)i->i_uid;
	d.d_gid = (uint16_t)i->i_gid;
	d.d_uid_high = (uint16_t)(i->i_uid >> 16);
	d.d_gid_high = (uint16_t)(i->i_gid >> 16);
	d.d_size = (uint32_t)i->i_size;
	d.d_size_high = inode_type(i) == S_IFREG ? (uint32_t)(i->i_size >> 32) : 0;
	d.d_atime = i->i_atime;
	d.d_mtime = i->i_mtime;
	d.d_ctime = i->i_ctime;
	d.d_dtime = i->i_nlink == 0 ? deletion_time() : 0;
	d.d_nlink = (uint16_t)i->i_nlink;
	d.d_blocks = (uint32_t)i->i_blocks;
	d.d_flags = 0;
	d.d_acl = 0;
	memset(d.d_block, 0, sizeof(d.d_block));
	if (e->e_fast) {
		memcpy(d.d_block, e->e_link, sizeof(e->e_link));
	} else if (i->i_rdev != 0) {
		d.d_block[0] = (uint32_t)i->i_rdev;
	} else {
		for (uint32_t k = 0; k < NDIRECT && k < e->e_nmap; k++)
			d.d_block[k] = map_word(e, k) & ~FRESH;
		for (uint32_t k = 0; k < 2 && k < e->e_nind; k++)
			d.d_block[12 + k] = e->e_ind[k];
	}
	return meta_write(block, off, &d, sizeof(d));
}

int ext2_flush(struct inode *i)
{
	struct ext2_inode *e = ext2_of(i);
	uint32_t *part;
	int err;

	if (i->i_nlink == 0 &&
	    i->i_vnode.v_refcnt == 1) { /* the file has no name and no other reference */
		(void)ext2_truncate(i, 0);
		err = flush_inode(e);
		inode_free(i);
		i->i_dirty = false;
		return err;
	}
	if (!i->i_dirty)
		return 0;
	if ((part = kalloc(BLOCK)) == NULL)
		return -ENOMEM;
	mach_mutex_enter(&i->i_lock);
	i->i_dirty = false;
	err = flush_indirection(e, part);
	if (err == 0)
		err = flush_inode(e);
	if (err != 0)
		i->i_dirty = true;
	mach_mutex_exit(&i->i_lock);
	kfree(part, BLOCK);
	return err;
}

void ext2_changed(struct inode *i) { i->i_dirty = true; }

static int ext2_readlink(struct inode *i, char *buf, size_t room)
{
	struct ext2_inode *e = ext2_of(i);
	uint64_t n = i->i_size < room ? i->i_size : room;
	int err;

	if (e->e_fast) {
		memcpy(buf, e->e_link, n);
		return (int)n;
	}
	err = ext2_pages_read(&i->i_vnode, 0, buf, n);
	return err != 0 ? err : (int)n;
}

static const struct inode_ops ext2_file_ops = { .io_truncate = ext2_truncate,
	.io_extend = ext2_extend,
	.io_changed = ext2_changed,
	.io_sync = ext2_flush };
static const struct inode_ops ext2_link_ops = {
	.io_readlink = ext2_readlink, .io_changed = ext2_changed, .io_sync = ext2_flush
};
static const struct inode_ops ext2_special_ops = { .io_changed = ext2_changed,
	.io_sync = ext2_flush };

/* ---- the file system ---- */
int ext2_mount(struct disk *d, const struct inode_ops *dir_ops, struct inode **root)
{
	struct ext2_super *s = &ext2.fs_super;
	uint32_t bytes;
	int err;

	mach_mutex_init(&ext2.fs_lock, 3, "ext2");
	ext2.fs_disk = d;
	ext2.fs_dir_ops = dir_ops;
	ext2.fs_vnode = blk_vnode(d);
	if ((err = meta_read(0, 1024, s, sizeof(*s))) != 0)
		return err;
	if (s->s_magic != 0xef53 || s->s_log_block != 2 ||
	    (s->s_incompat & ~INCOMPAT_FILETYPE) != 0 || (s->s_ro_compat & ~RO_COMPAT_KNOWN) != 0) {
		kprintf(
		    "ext2: magic %x, block size %u, features %x %x: not supported (mke2fs -t ext2 -b 4096)\n",
		    s->s_magic, 1024u << s->s_log_block, s->s_incompat, s->s_ro_compat);
		return -EINVAL;
	}
	ext2.fs_ngroups =
	    (s->s_blocks - s->s_first_data + s->s_blocks_per_group - 1) / s->s_blocks_per_group;
	ext2.fs_goal = s->s_first_data;
	bytes = ext2.fs_ngroups * (uint32_t)sizeof(struct ext2_group);
	if ((ext2.fs_group = kalloc(bytes)) == NULL)
		return -ENOMEM;
	if ((err = meta_read(1, 0, ext2.fs_group, bytes)) != 0)
		return err;
	return ext2_iget(ROOT_INO, root);
}

int ext2_sync_all(void)
{
	int err = 0;

	mach_mutex_enter(&ext2.fs_lock);
	if (ext2.fs_dirty) {
		err = meta_write(0, 1024, &ext2.fs_super, sizeof(ext2.fs_super));
		if (err == 0)
			err = meta_write(1, 0, ext2.fs_group,
			    ext2.fs_ngroups * (uint32_t)sizeof(struct ext2_group));
		ext2.fs_dirty = err != 0;
	}
	mach_mutex_exit(&ext2.fs_lock);
	return err != 0 ? err : err_of(vnode_sync(ext2.fs_vnode));
}

void ext2_statfs(uint64_t out[4])
{
	out[0] = ext2.fs_super.s_blocks;
	out[1] = ext2.fs_super.s_free_blocks;
	out[2] = ext2.fs_super.s_inodes;
	out[3] = ext2.fs_super.s_free_inodes;
}
