/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * ext2's directories: a file of blocks, each a chain of entries.
 *
 * No entry crosses the end of a block. An entry's length reaches to the next entry or to the
 * block's end; a removed entry's room goes to the entry before it, and an entry at a block's head
 * is marked as free (inode 0) instead. Every entry that is read is checked before it is followed
 * (entry_is_sound); a damaged entry gives EIO. Locks: the caller holds vfs_lock. Left out: hashed
 * directories, shrinking.
 */
#include "kernel/fs/ext2.h"

#define HEAD 8u           /* bytes of an entry before its name */
#define LINKS_MOST 32000u /* the format's: an inode counts its names in 16 bits */

static unsigned entry_size(size_t namelen) { return (unsigned)((HEAD + namelen + 3) & ~(size_t)3); }

static unsigned type_of(unsigned mode)
{
	switch (mode & S_IFMT) {
	case S_IFREG: return 1;
	case S_IFDIR: return 2;
	case S_IFCHR: return 3;
	case S_IFBLK: return 4;
	case S_IFIFO: return 5;
	case S_IFSOCK: return 6;
	case S_IFLNK: return 7;
	default: return 0;
	}
}

/*
 * The place of an entry: its block's offset in the directory; the offsets of the entry and of the
 * previous entry in the block.
 */
struct where {
	uint64_t w_block;
	unsigned w_at, w_before; /* w_before == w_at: the entry is the first of its block */
	uint32_t w_ino;
	char *w_buf; /* the block */
};

static int block_read(struct inode *dir, uint64_t off, char *buf)
{
	return ext2_pages_read(&dir->i_vnode, off, buf, BLOCK);
}

static int block_write(struct inode *dir, uint64_t off, const char *buf)
{
	dir->i_mtime = dir->i_ctime = vfs_now();
	dir->i_dirty = true;
	return ext2_pages_write(&dir->i_vnode, off, buf, BLOCK);
}

static struct ext2_dirent *entry_at(char *buf, unsigned at)
{
	return (struct ext2_dirent *)(void *)(buf + at);
}

static bool entry_is_sound(const struct ext2_dirent *e, unsigned at)
{
	return e->e_len >= HEAD && (e->e_len & 3) == 0 && at + e->e_len <= BLOCK &&
	    HEAD + e->e_namelen <= e->e_len;
}

static int find_entry(struct inode *dir, const char *name, size_t len, struct where *w)
{
	for (w->w_block = 0; w->w_block < dir->i_size; w->w_block += BLOCK) {
		int err = block_read(dir, w->w_block, w->w_buf);
		unsigned before = 0;

		if (err != 0)
			return err;
		for (unsigned at = 0; at < BLOCK;
		     before = at, at += entry_at(w->w_buf, at)->e_len) {
			const struct ext2_dirent *e = entry_at(w->w_buf, at);

			if (!entry_is_sound(e, at))
				return -EIO;
			if (e->e_ino == 0 || e->e_namelen != len ||
			    memcmp(e->e_name, name, len) != 0)
				continue;
			w->w_at = at;
			w->w_before = at == 0 ? 0 : before;
			w->w_ino = e->e_ino;
			return 0;
		}
	}
	return -ENOENT;
}

static int ext2_lookup(struct inode *dir, const char *name, size_t len, struct inode **ip)
{
	struct where w = { .w_buf = kalloc(BLOCK) };
	int err = w.w_buf == NULL ? -ENOMEM : find_entry(dir, name, len, &w);

	kfree(w.w_buf, BLOCK);
	return err != 0 ? err : ext2_iget(w.w_ino, ip);
}

static void fill_entry(
    struct ext2_dirent *e, uint64_t ino, unsigned mode, const char *name, size_t len)
{
	e->e_ino = (uint32_t)ino;
	e->e_namelen = (uint8_t)len;
	e->e_type = (uint8_t)type_of(mode);
	memcpy(e->e_name, name, len);
}

/* Adds a name that the directory does not have. A removed directory accepts no name: -ENOENT. */
static int add_entry(struct inode *dir, const char *name, size_t len, uint64_t ino, unsigned mode)
{
	char *buf;
	int err = 0;

	if (dir->i_nlink == 0)
		return -ENOENT;
	if ((buf = kalloc(BLOCK)) == NULL)
		return -ENOMEM;
	for (uint64_t off = 0; off < dir->i_size && err == 0; off += BLOCK) {
		if ((err = block_read(dir, off, buf)) != 0)
			break;
		for (unsigned at = 0; at < BLOCK; at += entry_at(buf, at)->e_len) {
			struct ext2_dirent *e = entry_at(buf, at);
			unsigned used = e->e_ino == 0 ? 0 : entry_size(e->e_namelen);

			if (!entry_is_sound(e, at)) {
				err = -EIO;
				break;
			}
			if (e->e_len - used < entry_size(len))
				continue;
			if (used > 0) {
				unsigned room = e->e_len - used;

				e->e_len = (uint16_t)used;
				e = entry_at(buf, at + used);
				e->e_len = (uint16_t)room;
			}
			fill_entry(e, ino, mode, name, len);
			err = block_write(dir, off, buf);
			kfree(buf, BLOCK);
			return err;
		}
	}
	if (err == 0)
		err = ext2_extend(dir, dir->i_size, BLOCK);
	if (err == 0) {
		memset(buf, 0, BLOCK);
		entry_at(buf, 0)->e_len = BLOCK;
		fill_entry(entry_at(buf, 0), ino, mode, name, len);
		dir->i_size += BLOCK;
		if ((err = block_write(dir, dir->i_size - BLOCK, buf)) != 0)
			(void)ext2_truncate(
			    dir, dir->i_size - BLOCK); /* a block of zeroes is no chain */
	}
	kfree(buf, BLOCK);
	return err;
}

static int remove_entry(struct inode *dir, struct where *w)
{
	struct ext2_dirent *e = entry_at(w->w_buf, w->w_at);

	if (w->w_at != w->w_before || w->w_at != 0)
		entry_at(w->w_buf, w->w_before)->e_len =
		    (uint16_t)(entry_at(w->w_buf, w->w_before)->e_len + e->e_len);
	else
		e->e_ino = 0;
	return block_write(dir, w->w_block, w->w_buf);
}

static int dir_begin(struct inode *dir, struct inode *parent)
{
	char *buf = kzalloc(BLOCK);
	int err = buf == NULL ? -ENOMEM : ext2_extend(dir, 0, BLOCK);

	if (err == 0) {
		entry_at(buf, 0)->e_len = 12;
		fill_entry(entry_at(buf, 0), dir->i_ino, S_IFDIR, ".", 1);
		entry_at(buf, 12)->e_len = BLOCK - 12;
		fill_entry(entry_at(buf, 12), parent->i_ino, S_IFDIR, "..", 2);
		dir->i_size = BLOCK;
		err = block_write(dir, 0, buf);
	}
	kfree(buf, BLOCK);
	return err;
}

/*
 * If a symlink's text does not fit into the inode, the caller writes it as to a file; else rdev is
 * the text's address.
 */
static int ext2_create(struct inode *dir, const char *name, size_t len, unsigned mode,
    uint64_t rdev, struct inode **ip)
{
	struct inode *i;
	int err;

	if ((mode & S_IFMT) == S_IFDIR && dir->i_nlink >= LINKS_MOST)
		return -EMLINK;
	if ((err = ext2_ialloc(mode, &i)) != 0)
		return err;
	if (inode_type(i) == S_IFDIR) {
		err = dir_begin(i, dir);
	} else if (inode_type(i) == S_IFLNK) {
		const char *text = (const char *)(uintptr_t)rdev;

		i->i_size = strlen(text);
		if (i->i_size < sizeof(ext2_of(i)->e_link)) {
			ext2_of(i)->e_fast = true;
			memcpy(ext2_of(i)->e_link, text, i->i_size);
		} else if ((err = ext2_extend(i, 0, i->i_size)) == 0) {
			err = ext2_pages_write(&i->i_vnode, 0, text, i->i_size);
		}
	} else if (inode_type(i) != S_IFREG) {
		i->i_rdev = rdev;
	}
	if (err == 0)
		err = add_entry(dir, name, len, i->i_ino, mode);
	if (err == 0) {
		i->i_nlink = inode_type(i) == S_IFDIR ? 2 : 1;
		dir->i_nlink += inode_type(i) == S_IFDIR;
		/* A sync may have written the inode since ext2_ialloc: without links, as if it were deleted. */
		i->i_dirty = dir->i_dirty = true;
		*ip = i;
	} else {
		inode_put(i);
	}
	return err;
}

static int ext2_link(struct inode *dir, const char *name, size_t len, struct inode *i)
{
	int err;

	if (i->i_fs != dir->i_fs)
		return -EXDEV;
	if (inode_type(i) == S_IFDIR)
		return -EPERM;
	if (i->i_nlink == 0)
		return -ENOENT;
	if (i->i_nlink >= LINKS_MOST)
		return -EMLINK;
	if ((err = add_entry(dir, name, len, i->i_ino, i->i_mode)) == 0) {
		i->i_nlink++;
		i->i_ctime = vfs_now();
		i->i_dirty = true;
	}
	return err;
}

/* *pos: a byte offset in the directory. */
static int ext2_readdir(struct inode *dir, uint64_t *pos, readdir_fn *fn, void *arg)
{
	static const uint8_t types[] = { 0, 8, 4, 2, 6, 1, 12, 10 };
	char *buf = kalloc(BLOCK);
	int err = buf == NULL ? -ENOMEM : 0;

	while (err == 0 && *pos < dir->i_size) {
		uint64_t off = *pos & ~(uint64_t)(BLOCK - 1);

		if ((err = block_read(dir, off, buf)) != 0)
			break;
		for (unsigned at = 0; at < BLOCK;) {
			const struct ext2_dirent *e = entry_at(buf, at);

			if (!entry_is_sound(e, at)) {
				err = -EIO;
				break;
			}
			if (off + at >= *pos) {
				if (e->e_ino != 0 &&
				    !fn(arg, e->e_name, e->e_namelen, e->e_ino,
					types[e->e_type & 7], off + at + e->e_len)) {
					*pos = off + at;
					kfree(buf, BLOCK);
					return 0;
				}
				*pos = off + at + e->e_len;
			}
			at += e->e_len;
		}
		if (*pos < off + BLOCK)
			*pos = off + BLOCK;
	}
	kfree(buf, BLOCK);
	return err;
}

static bool is_other(
    void *arg, const char *name, size_t len, uint64_t ino, unsigned type, uint64_t next)
{
	(void)ino, (void)type, (void)next;
	if ((len == 1 && name[0] == '.') || (len == 2 && name[0] == '.' && name[1] == '.'))
		return true;
	*(bool *)arg = false;
	return false;
}

/* 0, -ENOTEMPTY, or why the directory cannot be read. */
static int check_empty(struct inode *dir)
{
	uint64_t pos = 0;
	bool empty = true;
	int err = ext2_readdir(dir, &pos, is_other, &empty);

	return err == 0 && !empty ? -ENOTEMPTY : err;
}

static void lose_name(struct inode *dir, struct inode *i)
{
	if (inode_type(i) == S_IFDIR) {
		i->i_nlink = 0;
		dir->i_nlink--;
	} else {
		i->i_nlink--;
	}
	i->i_ctime = vfs_now();
	i->i_dirty = dir->i_dirty = true;
}

static int ext2_unlink(struct inode *dir, const char *name, size_t len, struct inode *i, bool rmdir)
{
	struct where w = { .w_buf = NULL };
	int err;

	if (rmdir && inode_type(i) != S_IFDIR)
		return -ENOTDIR;
	if (!rmdir && inode_type(i) == S_IFDIR)
		return -EISDIR;
	if (rmdir && (err = check_empty(i)) != 0)
		return err;
	if ((w.w_buf = kalloc(BLOCK)) == NULL)
		return -ENOMEM;
	if ((err = find_entry(dir, name, len, &w)) == 0 && (err = remove_entry(dir, &w)) == 0)
		lose_name(dir, i);
	kfree(w.w_buf, BLOCK);
	return err;
}

/* The name leads to i from now on. buf: a block's room. */
static int set_entry(struct inode *dir, const char *name, size_t len, struct inode *i, char *buf)
{
	struct where w = { .w_buf = buf };
	int err = find_entry(dir, name, len, &w);

	if (err != 0)
		return err;
	entry_at(buf, w.w_at)->e_ino = (uint32_t)i->i_ino;
	entry_at(buf, w.w_at)->e_type = (uint8_t)type_of(i->i_mode);
	return block_write(dir, w.w_block, buf);
}

/* The name in `to` leads to i; old, which it led to, loses it. buf: a block's room. */
static int give_new_name(struct inode *from, struct inode *to, const char *nname, size_t nlen,
    struct inode *i, struct inode *old, char *buf)
{
	bool dir = inode_type(i) == S_IFDIR;
	int err;

	if (old == NULL && dir && to != from && to->i_nlink >= LINKS_MOST) {
		err = -EMLINK;
	} else if (old == NULL) {
		err = add_entry(to, nname, nlen, i->i_ino, i->i_mode);
	} else if (dir != (inode_type(old) == S_IFDIR)) {
		err = dir ? -ENOTDIR : -EISDIR;
	} else if ((err = dir ? check_empty(old) : 0) != 0) {
		return err;
	} else if ((err = set_entry(to, nname, nlen, i, buf)) == 0) {
		lose_name(to, old);
	}
	if (err == 0 && dir)
		to->i_nlink++;
	return err;
}

/* Memory is allocated before the first change: for want of it the file keeps its old name, and has no other. */
static int ext2_rename(struct inode *from, const char *name, size_t len, struct inode *i,
    struct inode *to, const char *nname, size_t nlen, struct inode *old)
{
	struct where w = { .w_buf = NULL };
	int err;

	if (from->i_fs != to->i_fs)
		return -EXDEV;
	if (old == i)
		return 0;
	if ((w.w_buf = kalloc(BLOCK)) == NULL)
		return -ENOMEM;
	if ((err = give_new_name(from, to, nname, nlen, i, old, w.w_buf)) != 0) {
		kfree(w.w_buf, BLOCK);
		return err;
	}
	if ((err = find_entry(from, name, len, &w)) == 0)
		err = remove_entry(from, &w);
	if (inode_type(i) == S_IFDIR) {
		from->i_nlink--;
		if (from != to)
			(void)set_entry(i, "..", 2, to, w.w_buf);
	}
	kfree(w.w_buf, BLOCK);
	i->i_ctime = vfs_now();
	i->i_dirty = from->i_dirty = to->i_dirty = true;
	return err;
}

const struct inode_ops ext2_dir_ops = {
	.io_lookup = ext2_lookup,
	.io_create = ext2_create,
	.io_link = ext2_link,
	.io_unlink = ext2_unlink,
	.io_rename = ext2_rename,
	.io_readdir = ext2_readdir,
	.io_changed = ext2_changed,
	.io_sync = ext2_flush,
};
