# SPDX-License-Identifier: BSD-2-Clause
"""Commands of gdb for looking at a Quire system: gdb -x tools/gdb/quire.py PROGRAM. They read memory and call nothing, so they work
on a core file and on a process that is stuck, too.

  quire vm [VM]            frames by state, thresholds, reservation and swap
  quire spaces [VM]        the address spaces
  quire space AS           its segments
  quire page PFN [VM]      a page's state, name, locks and mapping list
  quire queues [VM]        the free lists, the cache list, the policy's queues
  quire pool [POOL]        the words of a compressed pool

VM, AS and POOL are expressions of C. Without VM or POOL, the nearest frame that has a variable vm, as or p of that kind names it.
"""

import gdb

NIL = 0xffffffff
KINDS = ((0x04, "off line"), (0x01, "free"), (0x02, "kernel"))
QUEUES = ("none", "1", "2", "3", "4", "cold", "standby", "leaving")


def word(value):
    """The number in a field, also where the compiler says that it is _Atomic, which gdb does not read."""
    size = value.type.sizeof
    kind = gdb.lookup_type({1: "unsigned char", 2: "unsigned short", 4: "unsigned int", 8: "unsigned long"}[size])
    return int(value.address.cast(kind.pointer()).dereference())


def text(value):
    return value.string() if int(value) else "-"


def variable(name, kind):
    """A variable of that name which points to a kind, in the nearest frame that has one."""
    frame = gdb.selected_frame()
    while frame is not None and frame.is_valid():
        try:
            value = frame.read_var(name)
            if value.type.strip_typedefs().code == gdb.TYPE_CODE_PTR and not value.is_optimized_out and \
                    value.type.strip_typedefs().target().unqualified().tag == kind:
                return value
        except ValueError:
            pass
        frame = frame.older()
    return None


def the_vm(argument):
    if argument:
        return gdb.parse_and_eval(argument)
    vm = variable("vm", "vm")
    if vm is None:
        space = variable("as", "as")
        vm = space["a_vm"] if space is not None else None
    if vm is None:
        raise gdb.GdbError("no frame has a vm or an as: give the expression")
    return vm


def spaces(vm):
    space = vm["vm_aslist"]
    while int(space):
        yield space
        space = space["a_next"]


def leaves(node):
    """Ranges below a node of an index (vm/as/range.c), by address."""
    kind = gdb.lookup_type("struct rnode").pointer()
    for i in range(int(node["rn_n"])):
        child = node["rn_ptr"][i]
        if int(node["rn_level"]) == 0:
            yield child
        else:
            yield from leaves(child.cast(kind))


def segments(space):
    root = space["a_index"]["ri_root"]
    if int(root):
        for pointer in leaves(root):    # s_node is the first member of a segment
            yield pointer.cast(gdb.lookup_type("struct seg").pointer())


def rights(prot):
    return "".join(c if prot & bit else "-" for bit, c in ((1, "r"), (2, "w"), (4, "x")))


def say_vm(vm):
    states = {}
    for pfn in range(word(vm["vm_nframes"])):
        state = page_state(vm["vm_pages"][pfn])
        states[state] = states.get(state, 0) + 1
    print("frames: %s" % ", ".join("%d %s" % (n, s) for s, n in sorted(states.items())))
    print("policy %s, prefetch %s" % (text(vm["vm_policy"]["pol_name"]), text(vm["vm_prefetch"]["pf_name"])))
    print("in the buddy %d; lotsfree %d, desfree %d, minfree %d, reserve %d" %
          tuple(word(vm[f]) for f in ("vm_nfree", "vm_lotsfree", "vm_desfree", "vm_minfree", "vm_reserve")))
    print("wired %d, kernel %d; reserved %d of %d; swap %d of %d" %
          tuple(word(vm[f]) for f in ("vm_nwired", "vm_nkernel", "vm_resv", "vm_resvmax", "vm_swapused", "vm_swaptotal")))


def page_state(page):
    flags = word(page["p_flags"])
    named = int(page["p_vnode"]) != 0
    if flags & 0x01 and named:
        return "cached"
    for bit, name in KINDS:
        if flags & bit:
            return name
    return "in use" if named else "taken"


def say_page(vm, pfn):
    if pfn >= word(vm["vm_nframes"]):
        raise gdb.GdbError("frame %d: there are %d" % (pfn, word(vm["vm_nframes"])))
    page = vm["vm_pages"][pfn]
    flags, lock, nrm = word(page["p_flags"]), int(page["p_selock"]), word(page["p_nrm"])
    print("page %d: %s" % (pfn, page_state(page)))
    vnode = page["p_vnode"]
    if int(vnode):
        if word(vnode["v_flags"]) & 2:
            print("  anonymous memory: anon %d" % (int(page["p_offset"]) >> 12))
        else:
            print("  vnode %#x (%s), offset %#x" % (int(vnode), text(vnode["v_ops"]["vo_name"]), int(page["p_offset"])))
    print("  lock: %s%s%s" % ("exclusive" if lock < 0 else "%d shared" % lock if lock else "free",
                              ", I/O" if flags & 0x10 else "", ", waited for" if flags & 0x80 else ""))
    print("  wired %d, %s, %s%s" % (word(page["p_lckcnt"]), "referenced" if nrm & 1 else "not referenced",
                                   "modified" if nrm & 2 else "clean", ", prefetched" if flags & 0x20 else ""))
    if flags & 0x40:
        print("  on the policy's queue %s" % QUEUES[word(page["p_polstate"]) & 7])
    print("  the port's mapping list: %#x %#x" % (int(page["p_hat"][0]), int(page["p_hat"][1])))


def say_queues(vm):
    print("buddy: %s" % ", ".join("%d of order %d" % (word(vm["vm_buddy"][k]["q_len"]), k)
                                  for k in range(vm["vm_buddy"].type.range()[1] + 1) if word(vm["vm_buddy"][k]["q_len"])))
    print("laid by for CPUs: %d; zeroed: %d" % (sum(word(vm["vm_cpu"][c]["vc_nframe"]) for c in range(word(vm["vm_cpumask"]) + 1)),
                                                word(vm["vm_zeropool"]["q_len"])))
    print("cache list: %d" % sum(word(vm["vm_pagelocks"][i]["pl_cache"]["q_len"]) for i in range(word(vm["vm_lockmask"]) + 1)))
    base = vm["vm_polstate"].cast(gdb.lookup_type("struct pol_base").pointer())     # the first member of every policy's state
    print("policy %s: %s" % (text(vm["vm_policy"]["pol_name"]),
                             ", ".join("%s %d" % (QUEUES[q], word(base["b_q"][q]["q_len"])) for q in range(1, len(QUEUES)))))
    print("not told to the policy yet: %d" % sum(word(vm["vm_cpu"][c]["vc_npend"]) for c in range(word(vm["vm_cpumask"]) + 1)))


def say_spaces(vm):
    for space in spaces(vm):
        print("as %#x: %d segments, %d bytes, %d pages reserved, %d locked" % (
            int(space), int(space["a_nsegs"]), int(space["a_size"]), word(space["a_swresv"]), word(space["a_locked"])))


def say_space(space):
    n = 0
    for seg in segments(space):
        n += 1
        driver = text(seg["s_ops"]["so_name"])
        line = "%#16x-%#x %-8s flags %#x" % (int(seg["s_node"]["r_base"]), int(seg["s_node"]["r_end"]), driver, int(seg["s_flags"]))
        if driver == "segvn":
            data = seg["s_data"].cast(gdb.lookup_type("struct segvn_data").pointer())
            line += " %s %s" % (rights(int(data["svd_prot"])), "shared" if int(data["svd_flags"]) & 1 else "private")
            line += " vnode %#x+%#x" % (int(data["svd_vp"]), int(data["svd_off"])) if int(data["svd_vp"]) else " anonymous"
        print(line)
    print("%d segments" % n)


def say_pool(pool):
    for field in pool["p_shared"].dereference().type.fields():
        value = pool["p_shared"][field.name]
        if value.type.strip_typedefs().sizeof in (1, 2, 4, 8) and \
                value.type.strip_typedefs().code not in (gdb.TYPE_CODE_PTR, gdb.TYPE_CODE_STRUCT, gdb.TYPE_CODE_ARRAY):
            print("%-20s %d" % (field.name, word(value)))


class Quire(gdb.Command):
    __doc__ = __doc__

    def __init__(self):
        super().__init__("quire", gdb.COMMAND_DATA)

    def invoke(self, argument, from_tty):
        words = argument.split(None, 1)
        what, rest = (words + ["", ""])[:2]
        if what == "vm":
            say_vm(the_vm(rest))
        elif what == "spaces":
            say_spaces(the_vm(rest))
        elif what == "space" and rest:
            say_space(gdb.parse_and_eval(rest))
        elif what == "page" and rest:
            pfn, vm = (rest.split(None, 1) + [""])[:2]
            say_page(the_vm(vm), int(gdb.parse_and_eval(pfn)))
        elif what == "queues":
            say_queues(the_vm(rest))
        elif what == "pool":
            pool = gdb.parse_and_eval(rest) if rest else variable("p", "pool")
            if pool is None:
                raise gdb.GdbError("no frame has a pool p: give the expression")
            say_pool(pool)
        else:
            raise gdb.GdbError("quire vm | spaces | space AS | page PFN | queues | pool; see help quire")


Quire()
