/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * virtio-blk over virtio-mmio (version 2, OASIS virtio 1.1): one queue, several requests in flight, interrupts.
 *
 * A request (struct req) is a chain of descriptors: header, pages, status byte. Neighbouring pages of one vm_io that do not
 * follow each other on the disk become several requests; the vm_io is done when the last of them is.
 *
 * Life of a vm_io: blk_start puts its requests in the ring (it waits for a free slot and free descriptors first). The interrupt
 * takes finished requests off the ring and counts down the requests that the slot's vm_io still has under way. The last of them
 * writes the result into the vm_io, marks it as answered and frees the slot; the interrupt then wakes all threads that wait on the
 * disk. The thread that waits (blk_wait, under vo_poll) finds the mark and calls io_done itself: never in the interrupt.
 *
 * A slot is free as soon as the device has answered, whatever the thread that started the vm_io does meanwhile: that thread may
 * wait for a lock whose holder waits for a slot. The stack of a thread that waits for the disk stays in memory, so the
 * interrupt may write into the vm_io there.
 *
 * Locks: d_lock (spin, interrupts off) guards rings, slots and requests; d_wait is a queue under sched_lock, and the interrupt
 * drops d_lock before it wakes. Left out: discard, several queues, indirect descriptors.
 */
#include "kernel/core/kernel.h"
#include "kernel/dev/virtio_blk.h"
#include "kernel/proc/proc.h"

#define QSIZE 256u
#define NSLOTS 32u
#define IO_ANSWERED NSLOTS   /* io_priv[0]: the result is known; smaller values: the vm_io's slot */
#define IO_TOLD (NSLOTS + 1) /* the result is known and io_done was called */
#define MAXDISKS 8u
#define MAGIC 0x000u
#define VERSION 0x004u
#define DEVICE_ID 0x008u
#define FEATURES 0x010u
#define FEATURES_SEL 0x014u
#define DRIVER 0x020u
#define DRIVER_SEL 0x024u
#define QUEUE_SEL 0x030u
#define QUEUE_MAX 0x034u
#define QUEUE_NUM 0x038u
#define QUEUE_READY 0x044u
#define NOTIFY 0x050u
#define INT_STATUS 0x060u
#define INT_ACK 0x064u
#define STATUS 0x070u
#define QUEUE_DESC 0x080u
#define QUEUE_AVAIL 0x090u
#define QUEUE_USED 0x0a0u
#define CONFIG 0x100u
#define F_FLUSH 9u
#define F_VERSION_1 (32u + 0u)
#define SECTORS_A_PAGE (VM_PAGESIZE / 512)

struct desc {
	uint64_t addr;
	uint32_t len;
	uint16_t flags, next;
};
struct used {
	uint16_t flags, idx;
	struct {
		uint32_t id, len;
	} ring[QSIZE];
};
struct avail {
	uint16_t flags, idx, ring[QSIZE];
};

/* One chain in the ring; its number is the number of its first descriptor. */
struct req {
	struct {
		uint32_t type, reserved;
		uint64_t sector;
	} rq_head;
	uint8_t rq_status;
	uint8_t rq_slot;
	uint16_t rq_first, rq_n; /* pages of the vm_io */
};

/* A vm_io that was given to the device. */
struct slot {
	struct vm_io *sl_io; /* NULL: free */
	unsigned sl_left;    /* requests in the ring, + 1 while blk_start adds requests */
	uint32_t sl_ok;      /* pages from the start that were transferred */
	bool sl_bad;
};

struct disk {
	volatile uint32_t *d_regs; /* const */
	unsigned d_number;
	uint64_t d_pages;    /* const */
	bool d_can_flush;    /* const */
	struct desc *d_desc; /* d_lock */
	volatile struct avail *d_avail;
	volatile struct used *d_used;
	struct req *d_req;          /* d_lock: [QSIZE], by first descriptor */
	struct slot d_slot[NSLOTS]; /* d_lock */
	uint16_t d_free, d_nfree;   /* d_lock: descriptors linked by next */
	uint16_t d_seen;            /* d_lock: number of entries taken from the used ring */
	struct spin d_lock;
	struct waitq d_wait; /* sched_lock */
	struct vnode d_vnode, d_swapvnode;
	struct blk_counters d_count; /* d_lock */
};
static struct disk disks[MAXDISKS];
static unsigned ndisks;

static uint32_t reg_read(const struct disk *d, unsigned reg) { return d->d_regs[reg / 4]; }
static void reg_write(struct disk *d, unsigned reg, uint32_t v) { d->d_regs[reg / 4] = v; }

/* ---- the ring: d_lock ---- */
static unsigned desc_take(struct disk *d)
{
	unsigned i = d->d_free;

	d->d_free = d->d_desc[i].next;
	d->d_nfree--;
	return i;
}

static unsigned add_desc(
    struct disk *d, unsigned before, uint64_t pa, uint32_t len, bool device_writes)
{
	unsigned i = desc_take(d);

	d->d_desc[before].flags |= 1;
	d->d_desc[before].next = (uint16_t)i;
	d->d_desc[i] = (struct desc){ .addr = pa, .len = len, .flags = device_writes ? 2 : 0 };
	return i;
}

static void offer_chain(struct disk *d, unsigned first)
{
	d->d_avail->ring[d->d_avail->idx % QSIZE] = (uint16_t)first;
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	d->d_avail->idx++;
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	reg_write(d, NOTIFY, 0);
}

/*
 * Puts one request in the ring; the caller has checked that there are enough descriptors. type: 0
 * read, 1 write, 4 flush.
 */
static void put_request(struct disk *d, unsigned slot, uint32_t type, uint64_t page,
    const struct vm_io *io, uint32_t at, uint32_t n)
{
	unsigned head = desc_take(d), last = head;
	struct req *r = &d->d_req[head];

	*r = (struct req){ .rq_head = { .type = type, .sector = page * SECTORS_A_PAGE },
		.rq_status = 0xff,
		.rq_slot = (uint8_t)slot,
		.rq_first = (uint16_t)at,
		.rq_n = (uint16_t)n };
	d->d_desc[head] =
	    (struct desc){ .addr = arch_phys(&r->rq_head), .len = sizeof(r->rq_head) };
	for (uint32_t i = 0; i < n; i++)
		last = add_desc(d, last, arch_phys(io->io_buf[at + i]), VM_PAGESIZE, type == 0);
	(void)add_desc(d, last, arch_phys(&r->rq_status), 1, true);
	d->d_slot[slot].sl_left++;
	offer_chain(d, head);
}

/*
 * One request less. The last request answers the vm_io: after that, the vm_io's thread may free it.
 */
static void slot_count_down(struct slot *s)
{
	struct vm_io *io = s->sl_io;

	if (--s->sl_left > 0)
		return;
	io->io_err = s->sl_bad ? VM_IO : VM_OK;
	io->io_ok = s->sl_ok;
	s->sl_io = NULL;
	__atomic_store_n(&io->io_priv[0], IO_ANSWERED, __ATOMIC_RELEASE);
}

static void take_used(struct disk *d)
{
	while (d->d_seen != d->d_used->idx) {
		unsigned head, i;
		struct req *r;
		struct slot *s;

		/* the index, and only then what the device wrote before it */
		__atomic_thread_fence(__ATOMIC_ACQUIRE);
		head = i = d->d_used->ring[d->d_seen % QSIZE].id;
		r = &d->d_req[head];
		s = &d->d_slot[r->rq_slot];
		d->d_seen++;
		if (r->rq_status != 0) {
			d->d_count.bc_errors++;
			s->sl_bad = true;
			if (r->rq_first < s->sl_ok)
				s->sl_ok = r->rq_first;
		}
		slot_count_down(s);
		for (;;) {
			bool more = d->d_desc[i].flags & 1;
			unsigned next = d->d_desc[i].next;

			d->d_desc[i].next = d->d_free;
			d->d_free = (uint16_t)i;
			d->d_nfree++;
			if (!more)
				break;
			i = next;
		}
	}
}

static void disk_interrupt(void *arg)
{
	struct disk *d = arg;
	bool irq = spin_lock(&d->d_lock);

	reg_write(d, INT_ACK, reg_read(d, INT_STATUS));
	d->d_count.bc_interrupts++;
	take_used(d);
	spin_unlock(&d->d_lock, irq);
	wake(&d->d_wait);
}

/* ---- requests ---- */
struct wants {
	struct disk *w_disk;
	unsigned w_desc; /* descriptors wanted */
	bool w_slot;     /* a slot, too */
};

static int free_slot(struct disk *d)
{
	for (unsigned i = 0; i < NSLOTS; i++)
		if (d->d_slot[i].sl_io == NULL)
			return (int)i;
	return -1;
}

static bool has_room(void *arg)
{
	const struct wants *w = arg;

	return w->w_disk->d_nfree >= w->w_desc && (!w->w_slot || free_slot(w->w_disk) >= 0);
}

/* Returns with d_lock held. */
static bool lock_with_room(struct disk *d, unsigned desc, bool slot)
{
	struct wants w = { d, desc, slot };

	for (;;) {
		bool irq = spin_lock(&d->d_lock);

		if (has_room(&w))
			return irq;
		spin_unlock(&d->d_lock, irq);
		(void)wait_until(&d->d_wait, has_room, &w, 0, false);
	}
}

static unsigned slot_begin(struct disk *d, struct vm_io *io)
{
	bool irq = lock_with_room(d, 0, true);
	int n = free_slot(d);

	d->d_slot[n] = (struct slot){ .sl_io = io, .sl_left = 1, .sl_ok = io->io_npages };
	spin_unlock(&d->d_lock, irq);
	io->io_priv[0] = (uint64_t)n;
	return (unsigned)n;
}

static void slot_sent(struct disk *d, unsigned slot)
{
	bool irq = spin_lock(&d->d_lock);
	unsigned busy = 0;
	bool free;

	for (unsigned i = 0; i < NSLOTS; i++)
		busy += d->d_slot[i].sl_io != NULL;
	if (busy > d->d_count.bc_deepest)
		d->d_count.bc_deepest = busy;
	slot_count_down(&d->d_slot[slot]);
	free = d->d_slot[slot].sl_io == NULL;
	spin_unlock(&d->d_lock, irq);
	if (free)
		wake(&d->d_wait);
}

void blk_start(struct disk *d, struct vm_io *io, const uint32_t *block)
{
	unsigned slot = slot_begin(d, io);

	for (uint32_t i = 0; i < io->io_npages;) {
		uint32_t n = 1;
		bool irq;

		if (block[i] == BLK_NONE) {
			i++;
			continue;
		}
		while (i + n < io->io_npages && block[i + n] == block[i] + n)
			n++;
		irq = lock_with_room(d, n + 2, false);
		put_request(d, slot, io->io_op == VM_IO_READ ? 0 : 1, block[i], io, i, n);
		if (io->io_op == VM_IO_READ) {
			d->d_count.bc_reads++;
			d->d_count.bc_pages_read += n;
		} else {
			d->d_count.bc_writes++;
			d->d_count.bc_pages_written += n;
		}
		spin_unlock(&d->d_lock, irq);
		i += n;
	}
	slot_sent(d, slot);
}

static bool is_answered(void *arg)
{
	return __atomic_load_n(&((struct vm_io *)arg)->io_priv[0], __ATOMIC_ACQUIRE) >= IO_ANSWERED;
}

void blk_wait(struct disk *d, struct vm_io *io)
{
	bool irq;

	(void)wait_until(&d->d_wait, is_answered, io, 0, false);
	if (io->io_priv[0] == IO_TOLD)
		return;
	irq = spin_lock(&d->d_lock); /* the interrupt no longer uses the vm_io */
	d->d_count.bc_proc_waits += mach_mutex_held(&proc_lock);
	spin_unlock(&d->d_lock, irq);
	io->io_priv[0] = IO_TOLD;
	io->io_done(io);
}

static void nothing_done(struct vm_io *io) { (void)io; }

enum vm_err blk_flush(struct disk *d)
{
	struct vm_io *io;
	enum vm_err e;
	unsigned slot;
	bool irq;

	if (!d->d_can_flush)
		return VM_OK;
	if ((io = kzalloc(sizeof(*io))) == NULL)
		return VM_NOMEM;
	io->io_done = nothing_done;
	slot = slot_begin(d, io);
	irq = lock_with_room(d, 2, false);
	put_request(d, slot, 4, 0, io, 0, 0);
	spin_unlock(&d->d_lock, irq);
	slot_sent(d, slot);
	blk_wait(d, io);
	e = io->io_err;
	kfree(io, sizeof(*io));
	return e;
}

/* ---- the disk as a vnode ---- */
static struct disk *disk_of(struct vnode *vp) { return vp->v_data; }

static void disk_start(struct vnode *vp, struct vm_io *io)
{
	struct disk *d = disk_of(vp);
	uint32_t block[VM_IO_PAGES];

	for (uint32_t i = 0; i < io->io_npages; i++)
		block[i] = (uint32_t)(vm_btop(io->io_off) + i);
	if (vm_btop(io->io_off) + io->io_npages > d->d_pages) {
		io->io_err = VM_EOF;
		io->io_ok = 0;
		io->io_priv[0] = IO_TOLD;
		io->io_done(io);
		return;
	}
	blk_start(d, io, block);
}

static void disk_poll(struct vnode *vp, struct vm_io *io)
{
	if (io != NULL)
		blk_wait(disk_of(vp), io);
}

static void disk_discard(struct vnode *vp, voff_t off, uint64_t len)
{
	(void)vp, (void)off, (void)len;
}
static enum vm_err disk_sync(struct vnode *vp, voff_t off, uint64_t len)
{
	(void)off, (void)len;
	return blk_flush(disk_of(vp));
}
static uint64_t disk_size(struct vnode *vp) { return vm_ptob(disk_of(vp)->d_pages); }
static void disk_inactive(struct vnode *vp) { (void)vp; }

static const struct vnode_ops disk_ops = {
	.vo_name = "disk",
	.vo_start = disk_start,
	.vo_poll = disk_poll,
	.vo_discard = disk_discard,
	.vo_sync = disk_sync,
	.vo_size = disk_size,
	.vo_inactive = disk_inactive,
};

/* ---- finding the disks ---- */
static void set_pa(struct disk *d, unsigned reg, const volatile void *p)
{
	uint64_t pa = arch_phys((const void *)p);

	reg_write(d, reg, (uint32_t)pa);
	reg_write(d, reg + 4, (uint32_t)(pa >> 32));
}

static bool rings_alloc(struct disk *d)
{
	/*
	 * ring parts of 4 KiB + 516 + 2 KiB bytes and requests of 32 bytes each: more than four
	 * adjacent frames
	 */
	struct page *pp = page_kalloc(the_vm, 3, PG_ZERO);
	char *p;

	if (pp == NULL)
		return false;
	p = mach_frame_kva(arch_machine(), page_pfn(the_vm, pp));
	d->d_desc = (struct desc *)(void *)p;
	d->d_avail = (volatile struct avail *)(void *)(p + 4096);
	d->d_used = (volatile struct used *)(void *)(p + 8192);
	d->d_req = (struct req *)(void *)(p + 12288);
	_Static_assert(
	    QSIZE * sizeof(struct req) <= 5 * 4096 && sizeof(struct used) <= 4096, "the rings fit");
	for (unsigned i = 0; i < QSIZE; i++)
		d->d_desc[i].next = (uint16_t)(i + 1);
	d->d_nfree = QSIZE;
	return true;
}

static bool disk_setup(struct disk *d)
{
	uint64_t features;

	reg_write(d, STATUS, 0);
	reg_write(d, STATUS, 1 | 2);
	reg_write(d, FEATURES_SEL, 0);
	features = reg_read(d, FEATURES);
	reg_write(d, FEATURES_SEL, 1);
	features |= (uint64_t)reg_read(d, FEATURES) << 32;
	features &= 1ull << F_FLUSH | 1ull << F_VERSION_1;
	d->d_can_flush = (features & 1ull << F_FLUSH) != 0;
	reg_write(d, DRIVER_SEL, 0);
	reg_write(d, DRIVER, (uint32_t)features);
	reg_write(d, DRIVER_SEL, 1);
	reg_write(d, DRIVER, (uint32_t)(features >> 32));
	reg_write(d, STATUS, 1 | 2 | 8);
	reg_write(d, QUEUE_SEL, 0);
	if (!(reg_read(d, STATUS) & 8) || reg_read(d, QUEUE_MAX) < QSIZE || !rings_alloc(d))
		return false;
	reg_write(d, QUEUE_NUM, QSIZE);
	set_pa(d, QUEUE_DESC, d->d_desc);
	set_pa(d, QUEUE_AVAIL, d->d_avail);
	set_pa(d, QUEUE_USED, d->d_used);
	reg_write(d, QUEUE_READY, 1);
	reg_write(d, STATUS, 1 | 2 | 8 | 4);
	d->d_pages =
	    (reg_read(d, CONFIG) | (uint64_t)reg_read(d, CONFIG + 4) << 32) / SECTORS_A_PAGE;
	return true;
}

void blk_init(void)
{
	struct arch_device dev[24];
	unsigned n;

	memset(dev, 0, sizeof(dev));
	n = arch_virtio_devices(dev, 24);
	for (unsigned i = 0; i < n && ndisks < MAXDISKS; i++) {
		struct disk *d = &disks[ndisks];

		d->d_regs = dev[i].ad_regs;
		if (reg_read(d, MAGIC) != 0x74726976 || reg_read(d, VERSION) != 2 ||
		    reg_read(d, DEVICE_ID) != 2)
			continue;
		if (!disk_setup(d)) {
			kprintf("disk at %lx: not usable\n", dev[i].ad_pa);
			continue;
		}
		d->d_number = ndisks++;
		vnode_init(&d->d_vnode, the_vm, &disk_ops, d);
		vnode_init(&d->d_swapvnode, the_vm, &disk_ops, d);
		d->d_swapvnode.v_flags = V_SWAP;
		arch_irq_attach(dev[i].ad_irq, disk_interrupt, d);
	}
}

struct disk *blk_disk(unsigned n) { return n < ndisks ? &disks[n] : NULL; }
uint64_t blk_pages(const struct disk *d) { return d->d_pages; }
struct vnode *blk_vnode(struct disk *d) { return &d->d_vnode; }
struct vnode *blk_swap_vnode(struct disk *d) { return &d->d_swapvnode; }
void blk_counters(const struct disk *d, struct blk_counters *c) { *c = d->d_count; }
