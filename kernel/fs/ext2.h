/* SPDX-License-Identifier: BSD-2-Clause */
/* ext2 (the on-disk format is public: Poirier, "The Second Extended File System"): private to its files. */
#ifndef QUIRE_KERNEL_EXT2_H
#define QUIRE_KERNEL_EXT2_H

#include "kernel/dev/virtio_blk.h"
#include "kernel/fs/vfs.h"

#define EXT2_FS 1u /* st_dev */
#define BLOCK VM_PAGESIZE
#define NDIRECT 12u
#define PER_BLOCK (BLOCK / 4)
#define ROOT_INO 2u

struct ext2_super {
	uint32_t s_inodes, s_blocks, s_reserved, s_free_blocks, s_free_inodes, s_first_data,
	    s_log_block, s_log_frag;
	uint32_t s_blocks_per_group, s_frags_per_group, s_inodes_per_group, s_mtime, s_wtime;
	uint16_t s_mounts, s_max_mounts, s_magic, s_state, s_errors, s_minor;
	uint32_t s_lastcheck, s_checkinterval, s_os, s_rev;
	uint16_t s_resuid, s_resgid;
	uint32_t s_first_ino;
	uint16_t s_inode_size, s_group;
	uint32_t s_compat, s_incompat, s_ro_compat;
	uint8_t s_rest[920];
};
_Static_assert(sizeof(struct ext2_super) == 1024, "as on disk");
struct ext2_group {
	uint32_t g_block_bitmap, g_inode_bitmap, g_inode_table;
	uint16_t g_free_blocks, g_free_inodes, g_dirs, g_pad;
	uint32_t g_reserved[3];
};
struct ext2_dinode {
	uint16_t d_mode, d_uid;
	uint32_t d_size, d_atime, d_ctime, d_mtime, d_dtime;
	uint16_t d_gid, d_nlink;
	uint32_t d_blocks, d_flags, d_osd1, d_block[15], d_generation, d_acl, d_size_high, d_faddr;
	uint32_t d_osd2;
	uint16_t d_uid_high, d_gid_high;
	uint32_t d_osd3;
};
_Static_assert(sizeof(struct ext2_dinode) == 128, "as on disk");
struct ext2_dirent {
	uint32_t e_ino;
	uint16_t e_len;
	uint8_t e_namelen, e_type;
	char e_name[];
};

/*
 * e_map: the disk's block of each block of the file; 0: a hole. FRESH: allocated and never written;
 * reads as zeroes.
 */
#define FRESH 0x80000000u
struct ext2_inode {
	struct inode e_inode;
	struct mach_mutex
	    e_maplock; /* spins: e_map's address and its words, which vo_start reads under the vm's locks */
	uint32_t *e_map; /* number of words; read under e_maplock, grown with i_lock */
	uint32_t e_nmap; /* entries; i_lock */
	/* i_lock: blocks of indirection: single, double, then the children of the double block */
	uint32_t *e_ind;
	uint32_t e_nind; /* i_lock: entries of that array */
	bool e_fast;     /* const: a symlink whose text is in the inode */
	char e_link[60];
};
static inline struct ext2_inode *ext2_of(struct inode *i) { return (struct ext2_inode *)(void *)i; }

extern struct ext2_fs {
	struct disk *fs_disk;               /* const */
	const struct inode_ops *fs_dir_ops; /* const: of directories, from ext2_mount */
	struct vnode *fs_vnode;             /* the disk's pages: metadata */
	/* sleeps: guards the fields below, the bitmaps and the tables of inodes */
	struct mach_mutex fs_lock;
	struct ext2_super fs_super;
	struct ext2_group *fs_group;
	uint32_t fs_ngroups;
	uint32_t fs_goal; /* the block at which the next search starts */
	bool fs_dirty;
} ext2;

/* ext2.c */
int ext2_ialloc(
    unsigned mode, struct inode **); /* a new inode, in the cache; i_nlink 0; *ip: a reference */
/*
 * vnode_read and vnode_write for what must not stop in the middle: they wait for memory. 0 or a
 * negative error; a part only is -EIO.
 */
int ext2_pages_read(struct vnode *, uint64_t off, void *buf, uint64_t len);
int ext2_pages_write(struct vnode *, uint64_t off, const void *buf, uint64_t len);
int ext2_extend(struct inode *, uint64_t off, uint64_t len);
int ext2_truncate(struct inode *, uint64_t size);
/* writes the inode and its indirection to the disk's pages; frees an inode without names */
int ext2_flush(struct inode *);
void ext2_changed(struct inode *);
#endif
