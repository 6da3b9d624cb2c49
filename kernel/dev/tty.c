/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The console as a terminal: lines with erase and echo (canonical mode) or bytes as they come,
 * signals from ^C and ^\, job control for the foreground group only.
 *
 * Input comes by interrupt: the bytes go into a small ring; the thread that reads, or that echoes, edits the line. Locks: the ring
 * by tty_spin (interrupts off); the rest by tty_lock (sleeps). Left out: several terminals, flow control, background writes stopped.
 */
#include "kernel/fs/vfs.h"
#include "kernel/proc/proc.h"

#define RAW 1024u
#define LINE 4096u
#define ICRNL 0x100u
#define OPOST 1u
#define ONLCR 4u
#define ISIG 1u
#define ICANON 2u
#define ECHO 8u
enum { VINTR, VQUIT, VERASE, VKILL, VEOF, VTIME, VMIN };

struct termios { /* Linux's */
	uint32_t c_iflag, c_oflag, c_cflag, c_lflag;
	uint8_t c_line, c_cc[19];
};
static struct termios tio = { .c_iflag = ICRNL,
	.c_oflag = OPOST | ONLCR,
	.c_cflag = 0xbf,
	.c_lflag = ISIG | ICANON | ECHO | 0x8a30u,
	.c_cc = { 3, 28, 127, 21, 4, 0, 1, 0, 17, 19, 26, 0, 18, 15, 23, 22 } };
static struct {
	uint16_t row, col, x, y;
} winsize = { 24, 80, 0, 0 };
static int foreground;

static struct spin tty_spin;
static char raw[RAW];
static _Atomic unsigned raw_in, raw_out; /* tty_spin */
static struct mach_mutex tty_lock;
static char line[LINE];
static unsigned line_n, line_at; /* tty_lock: edited bytes; bytes already read of a complete line */
static bool line_ready, line_eof;
static struct waitq tty_wait;

/* In the interrupt. */
void console_input(char c)
{
	bool irq;

	if ((tio.c_lflag & ISIG) && (c == (char)tio.c_cc[VINTR] || c == (char)tio.c_cc[VQUIT])) {
		signal_interrupt_group(foreground, c == (char)tio.c_cc[VINTR] ? 2 : 3);
		return;
	}
	irq = spin_lock(&tty_spin);
	if (raw_in - raw_out < RAW)
		raw[raw_in++ % RAW] = c;
	spin_unlock(&tty_spin, irq);
	irq = spin_lock(&sched_lock);
	wake_all(&tty_wait);
	wake_all(&poll_queue);
	spin_unlock(&sched_lock, irq);
}

static void uart_interrupt(void *arg)
{
	int c;

	(void)arg;
	while ((c = arch_getc()) >= 0)
		console_input((char)c);
}

void tty_set_foreground(int pgid) { foreground = pgid; }

void tty_init(void)
{
	mach_mutex_init(&tty_lock, 6, "terminal");
	arch_irq_attach(arch_console_irq(), uart_interrupt, NULL);
}

static void echo_char(char c)
{
	if (!(tio.c_lflag & ECHO))
		return;
	if (c == '\n')
		arch_putc('\r');
	arch_putc(c);
}

static bool raw_take(char *c)
{
	bool irq = spin_lock(&tty_spin), any = raw_in != raw_out;

	if (any)
		*c = raw[raw_out++ % RAW];
	spin_unlock(&tty_spin, irq);
	if (any && *c == '\r' && (tio.c_iflag & ICRNL))
		*c = '\n';
	return any;
}

/* Edits the arrived bytes; tty_lock held. */
static void edit_line(void)
{
	char c;

	KASSERT(mach_mutex_held(&tty_lock));
	while (!line_ready && raw_take(&c)) {
		if (!(tio.c_lflag & ICANON)) {
			echo_char(c);
			line[line_n++] = c;
			if (line_n == LINE)
				line_ready = true;
		} else if (c == (char)tio.c_cc[VERASE] || c == '\b') {
			if (line_n > 0) {
				line_n--;
				echo_char('\b');
				echo_char(' ');
				echo_char('\b');
			}
		} else if (c == (char)tio.c_cc[VKILL]) {
			line_n = 0;
			echo_char('\n');
		} else if (c == (char)tio.c_cc[VEOF]) {
			line_ready = line_eof = true;
		} else if (line_n < LINE - 1 || c == '\n') {
			echo_char(c);
			line[line_n++] = c;
			line_ready = c == '\n';
		}
	}
	if (!(tio.c_lflag & ICANON) && line_n > 0)
		line_ready = true;
}

static bool has_input(void *arg)
{
	(void)arg;
	return raw_in != raw_out || line_ready;
}

static int64_t tty_read(struct file *f, void *buf, uint64_t len, uint64_t off)
{
	uint64_t n;
	int err;

	(void)off;
	for (;;) {
		mach_mutex_enter(&tty_lock);
		edit_line();
		if (line_ready) {
			n = line_n - line_at < len ? line_n - line_at : len;
			memcpy(buf, line + line_at, n);
			line_at += (unsigned)n;
			if (line_at == line_n) {
				line_n = line_at = 0;
				line_ready = line_eof = false;
			}
			mach_mutex_exit(&tty_lock);
			return (int64_t)n;
		}
		mach_mutex_exit(&tty_lock);
		if ((f->f_flags & O_NONBLOCK) || (!(tio.c_lflag & ICANON) && tio.c_cc[VMIN] == 0))
			return (f->f_flags & O_NONBLOCK) ? -EAGAIN : 0;
		if ((err = wait_until(&tty_wait, has_input, NULL, 0, true)) != 0)
			return err == -EINTR ? -ERESTART : err;
	}
}

static int64_t tty_write(struct file *f, const void *buf, uint64_t len, uint64_t off)
{
	const char *s = buf;

	(void)f, (void)off;
	for (uint64_t i = 0; i < len; i++) {
		if (s[i] == '\n' && (tio.c_oflag & OPOST) && (tio.c_oflag & ONLCR))
			arch_putc('\r');
		arch_putc(s[i]);
	}
	return (int64_t)len;
}

static int tty_poll(struct file *f)
{
	bool in;

	(void)f;
	mach_mutex_enter(&tty_lock);
	edit_line();
	in = line_ready;
	mach_mutex_exit(&tty_lock);
	return (in ? POLLIN : 0) | POLLOUT;
}

static int64_t tty_ioctl(struct file *f, unsigned cmd, uint64_t arg)
{
	int n;

	(void)f;
	switch (cmd) {
	case 0x5401: /* TCGETS */ return copy_out(arg, &tio, sizeof(tio));
	case 0x5402:
	case 0x5403:
	case 0x5404: /* TCSETS, W, F */ return copy_in(&tio, arg, sizeof(tio));
	case 0x5413: /* TIOCGWINSZ */ return copy_out(arg, &winsize, sizeof(winsize));
	case 0x5414: return copy_in(&winsize, arg, sizeof(winsize));
	case 0x540f: /* TIOCGPGRP */ return copy_out(arg, &foreground, sizeof(foreground));
	case 0x5410: return copy_in(&foreground, arg, sizeof(foreground));
	case 0x541b: /* FIONREAD */
		n = line_ready ? (int)(line_n - line_at) : 0;
		return copy_out(arg, &n, sizeof(n));
	case 0x5429: /* TIOCGSID */ n = this_proc()->p_sid; return copy_out(arg, &n, sizeof(n));
	case 0x540e: /* TIOCSCTTY */ foreground = this_proc()->p_pgid; return 0;
	case 0x540b:
	case 0x5409:
	case 0x5422: /* TCFLSH, TCSBRK, TIOCNOTTY */ return 0;
	default: return -ENOTTY;
	}
}

const struct file_ops tty_ops = {
	.fo_read = tty_read,
	.fo_write = tty_write,
	.fo_poll = tty_poll,
	.fo_ioctl = tty_ioctl,
};
