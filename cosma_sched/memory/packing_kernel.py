"""The canonical search itself, as functions over whole numbers in flat sequences.

The same source runs as plain Python on lists and, with the extra ``fast``, compiled by Numba on arrays; hence the flat sequences, the
explicit stack and the loops where Python would use comprehensions.

Every packing can be pushed down and read off by non-decreasing (offset, rank); then each buffer sits at the highest end of the buffers
placed before it that live with it (`State.lowest`). The search places buffers in that order, depth first:

- *part*: buffers whose lifetimes are connected by unplaced buffers. A placement may cut the part in several; their searches are
  independent: a part that is solved is never reopened, a part that fails takes the placement back that made it.
- *skipped*: an unplaced buffer that is below the last (offset, rank) tried. Order forbids its present offset, so an unplaced buffer that
  lives with it has to raise it first (`State.bound`). Without one that can, nothing may come next.
- *hole*: where an unplaced buffer would fit completely below the offset tried, it could be pushed down into the hole; such packings are
  left out because a lower one exists.
- *section*: in each section the unplaced buffers have to fit above the least bound of its unplaced members.
- *blame*: a refutation names sections that suffice for it. A placement that changed no buffer living in them had no part in it, so the
  part below is refuted as well, without trying what else could be placed there.
- *stack*: of buffers with the same sections and no alignment, the one with the lower order is not put directly on one with a higher:
  they could be exchanged. Equal buffers are placed by order.

The rules agree with each other: among all packings, one that minimises a sum of offsets with weights decreasing fast enough along the
order breaks none of them.
"""

from __future__ import annotations

from cosma_sched.memory.packing_state import (
    ADVANCE,
    BEGIN,
    BLAME_FIRST,
    BLAME_LAST,
    DEPTH,
    FAILED,
    FAR,
    MOST_PLACED,
    NEXT_STEP,
    NODES,
    NONE,
    NUM_PARTS,
    NUM_PLACED,
    NUM_RANKS,
    PACKED,
    REFUTED,
    SOLVED,
    TRAIL_LENGTH,
    TRY,
    UNFINISHED,
    Instance,
    Ints,
    State,
)


def search(p: Instance, w: State, budget: int) -> int:
    """Go on for at most `budget` placements; return PACKED, REFUTED or UNFINISHED."""
    depth, step, nodes, result = w.registers[DEPTH], w.registers[NEXT_STEP], 0, UNFINISHED
    if step == BEGIN:
        if p.is_dynamic == 1:
            rank_buffers(p, w, 0)
            w.rank_mark[0] = w.registers[NUM_RANKS]
        step = TRY
    while True:
        if step == TRY:
            restore(p, w, depth)
            if nodes >= budget:
                break
            chosen = next_buffer(p, w, depth)
            if chosen == NONE:
                widen_blame(w, depth, w.registers[BLAME_FIRST], w.registers[BLAME_LAST])
                w.registers[BLAME_FIRST], w.registers[BLAME_LAST] = w.blame_first[depth], w.blame_last[depth]
                step = FAILED
                continue
            nodes += 1
            w.chosen[depth], w.after_offset[depth], w.after_rank[depth] = chosen, w.lowest[chosen], w.rank[chosen]
            if place(p, w, depth, chosen):
                cut(p, w, depth, chosen)
                step = ADVANCE
            else:
                step = take_back(p, w, depth)
        elif step == ADVANCE:
            if w.part_next[depth] == w.part_end[depth]:
                step = SOLVED
            else:
                w.part_next[depth] += 1
                depth += 1
                open_part(p, w, depth)
                step = TRY
        else:
            # a solved part lets the placement below go on, a failed one takes it back
            depth -= 1
            if depth < 0:
                result = PACKED if step == SOLVED else REFUTED
                break
            step = ADVANCE if step == SOLVED else take_back(p, w, depth)
    w.registers[DEPTH], w.registers[NEXT_STEP] = depth, step
    w.registers[NODES] += nodes
    return result


def take_back(p: Instance, w: State, depth: int) -> int:
    """Return what follows a refuted placement: another one, or none where this one had no part in the refutation.

    Then the part is refuted, but not without what was tried there before: what was refuted then counts as skipped now.
    """
    first, last = w.registers[BLAME_FIRST], w.registers[BLAME_LAST]
    if last <= w.touched_first[depth] or w.touched_last[depth] <= first:
        blame(w, min(first, w.blame_first[depth]), max(last, w.blame_last[depth]))
        return FAILED
    chosen = w.chosen[depth]
    widen_blame(w, depth, min(first, p.upper[chosen] - 1), max(last, p.lower[chosen] + 1))
    return TRY


def widen_blame(w: State, depth: int, first: int, last: int) -> None:
    """Add sections to those that refute what was tried at a level."""
    w.blame_first[depth] = min(w.blame_first[depth], first)
    w.blame_last[depth] = max(w.blame_last[depth], last)


def blame(w: State, first: int, last: int) -> None:
    """Write down the sections that refute the last step."""
    w.registers[BLAME_FIRST], w.registers[BLAME_LAST] = first, last


def restore(p: Instance, w: State, depth: int) -> None:
    """Take back everything that was placed since the part at this level was opened."""
    lowest, total, crossing = w.lowest, w.total, w.crossing
    trail = w.registers[TRAIL_LENGTH]
    while trail > w.trail_mark[depth]:
        trail -= 1
        lowest[w.trail_item[trail]] = w.trail_value[trail]
    w.registers[TRAIL_LENGTH] = trail
    count = w.registers[NUM_PLACED]
    while count > w.placed_mark[depth]:
        count -= 1
        i = w.placed[count]
        w.is_placed[i] = 0
        w.stack_top[p.stack[i]] = w.placed_on[count]
        size = p.sizes[i]
        for e in range(p.section_start[i], p.section_start[i + 1]):
            total[p.sections[e]] += size
        for s in range(p.lower[i] + 1, p.upper[i]):
            crossing[s] += 1
    w.registers[NUM_PLACED] = count
    trail = w.registers[NUM_RANKS]
    while trail > w.rank_mark[depth]:
        trail -= 1
        w.rank[w.rank_item[trail]] = w.rank_value[trail]
    w.registers[NUM_RANKS] = trail
    w.registers[NUM_PARTS] = w.part_mark[depth]


def next_buffer(p: Instance, w: State, depth: int) -> int:
    """Return the buffer with the least (offset, rank) that may come next in a part, or NONE where nothing may."""
    best, num_skipped = least_allowed(p, w, depth)
    if best == NONE:
        return NONE
    if num_skipped > 0 and not raise_skipped(p, w, depth):
        return NONE
    return best if sections_fit(p, w, w.bound, w.lowest[best], w.first[depth], w.last[depth]) else NONE


def least_allowed(p: Instance, w: State, depth: int) -> tuple[int, int]:
    """Return the allowed buffer with the least (offset, rank), and how many are skipped; set their bound to NONE, else to their offset.

    Returns NONE where the offset would leave a hole that another unplaced buffer fills.
    """
    after, after_rank = w.after_offset[depth], w.after_rank[depth]
    items, lowest, rank, bound, sizes = w.items, w.lowest, w.rank, w.bound, p.sizes
    hole, best, best_offset, best_rank, num_skipped = FAR, NONE, FAR, FAR, 0
    for x in range(w.begin[depth], w.end[depth]):
        i = items[x]
        offset = lowest[i]
        if offset + sizes[i] < hole and p.pins[i] == NONE:
            hole = offset + sizes[i]
        if offset < after or (offset == after and rank[i] <= after_rank):
            bound[i] = NONE
            num_skipped += 1
            continue
        bound[i] = offset
        if offset > best_offset or (offset == best_offset and rank[i] > best_rank):
            continue
        twin, below = p.twin[i], w.stack_top[p.stack[i]]
        if twin != NONE and w.is_placed[twin] == 0:
            continue
        if below != NONE and w.offset[below] + sizes[below] == offset and p.order[below] > p.order[i]:
            bound[i] = NONE
            num_skipped += 1
            continue
        best, best_offset, best_rank = i, offset, rank[i]
    if best == NONE:
        blame(w, w.first[depth], w.last[depth])
    elif best_offset >= hole:
        blame_hole(p, w, depth, hole)
        best = NONE
    return best, num_skipped


def blame_hole(p: Instance, w: State, depth: int, hole: int) -> None:
    """Blame the life of a buffer that fits below the next offset if what lives with it stays above; otherwise the whole part."""
    blame(w, w.first[depth], w.last[depth])
    for x in range(w.begin[depth], w.end[depth]):
        i = w.items[x]
        if w.lowest[i] + p.sizes[i] != hole or p.pins[i] != NONE:
            continue
        first, last, stays = p.lower[i], p.upper[i], True
        for e in range(p.rival_start[i], p.rival_start[i + 1]):
            k = p.rivals[e]
            if w.is_placed[k] == 1 or (w.bound[k] >= hole):
                continue
            if w.bound[k] != NONE or least_raised(p, w, k, w.after_offset[depth]) < hole:
                stays = False
                break
            first = min(first, p.lower[k])
            last = max(last, p.upper[k])
        if stays:
            blame(w, first, last)
            return


def least_raised(p: Instance, w: State, i: int, after: int) -> int:
    """Return the least end of an unplaced buffer that can raise a skipped one; FAR where there is none."""
    raised = FAR
    for e in range(p.rival_start[i], p.rival_start[i + 1]):
        k = p.rivals[e]
        if w.is_placed[k] == 0:
            raised = min(raised, max(w.lowest[k], after) + p.sizes[k])
    return raised


def raise_skipped(p: Instance, w: State, depth: int) -> bool:
    """Set the bound of each skipped buffer: the least end of an unplaced buffer that can raise it; False where it cannot be raised."""
    for x in range(w.begin[depth], w.end[depth]):
        i = w.items[x]
        if w.bound[i] != NONE:
            continue
        raised = rounded_up(least_raised(p, w, i, w.after_offset[depth]), p.alignments[i])
        if raised + p.sizes[i] > p.capacity or p.pins[i] != NONE:
            blame(w, p.lower[i], p.upper[i])
            return False
        w.bound[i] = raised
    return True


def rounded_up(offset: int, alignment: int) -> int:
    """Return the least multiple of the alignment that is not below the offset."""
    return offset if alignment == 1 else (offset + alignment - 1) // alignment * alignment


def sections_fit(p: Instance, w: State, bound: Ints, least: int, first: int, last: int) -> bool:
    """Whether, in each section of the range, the unplaced members fit above `least` and above the least bound of one of them."""
    capacity, total, witness, is_placed = p.capacity, w.total, w.witness, w.is_placed
    for s in range(first, last):
        room = capacity - total[s]
        if room == capacity:
            continue
        i = witness[s]
        if is_placed[i] == 0 and bound[i] <= room:
            if least > room:
                blame(w, first, last)
                return False
            continue
        found = NONE
        for e in range(p.member_start[s], p.member_start[s + 1]):
            i = p.members[e]
            if is_placed[i] == 0 and bound[i] <= room:
                found = i
                break
        if found == NONE:
            blame_section(p, w, bound, s)
            return False
        witness[s] = found
        if least > room:
            blame(w, first, last)
            return False
    return True


def blame_section(p: Instance, w: State, bound: Ints, section: int) -> None:
    """Blame a section that does not fit, and the lives of its skipped members, whose bounds depend on what lives with them."""
    w.heat[section] += 1
    first, last = section, section + 1
    for e in range(p.member_start[section], p.member_start[section + 1]):
        i = p.members[e]
        if w.is_placed[i] == 0 and bound[i] != w.lowest[i]:
            first = min(first, p.lower[i])
            last = max(last, p.upper[i])
    blame(w, first, last)


def place(p: Instance, w: State, depth: int, chosen: int) -> bool:
    """Place a buffer at its least offset and raise what lives with it; False where something no longer fits."""
    put_down(p, w, chosen)
    offset, top = w.offset[chosen], w.offset[chosen] + p.sizes[chosen]
    lowest, is_placed, rivals, lower, upper = w.lowest, w.is_placed, p.rivals, p.lower, p.upper
    first, last, trail = lower[chosen], upper[chosen], w.registers[TRAIL_LENGTH]
    fits = True
    for e in range(p.rival_start[chosen], p.rival_start[chosen + 1]):
        k = rivals[e]
        if is_placed[k] == 1 or lowest[k] >= top:
            continue
        raised = rounded_up(top, p.alignments[k])
        if raised + p.sizes[k] > p.capacity or p.pins[k] != NONE:
            fits = False
            blame(w, max(lower[k], lower[chosen]), max(lower[k], lower[chosen]) + 1)
            break
        w.trail_item[trail], w.trail_value[trail] = k, lowest[k]
        trail += 1
        lowest[k] = raised
        first = min(first, lower[k])
        last = max(last, upper[k])
    w.registers[TRAIL_LENGTH] = trail
    w.touched_first[depth], w.touched_last[depth] = first, last
    return fits and sections_fit(p, w, lowest, offset, first, last)


def put_down(p: Instance, w: State, chosen: int) -> None:
    """Write down that a buffer lies at its least offset; `restore` takes it back."""
    count = w.registers[NUM_PLACED]
    w.offset[chosen] = w.lowest[chosen]
    w.is_placed[chosen] = 1
    w.placed[count], w.placed_on[count] = chosen, w.stack_top[p.stack[chosen]]
    w.stack_top[p.stack[chosen]] = chosen
    w.registers[NUM_PLACED] = count + 1
    w.registers[MOST_PLACED] = max(w.registers[MOST_PLACED], count + 1)
    total, crossing, size = w.total, w.crossing, p.sizes[chosen]
    for e in range(p.section_start[chosen], p.section_start[chosen + 1]):
        total[p.sections[e]] -= size
    for s in range(p.lower[chosen] + 1, p.upper[chosen]):
        crossing[s] -= 1


def cut(p: Instance, w: State, depth: int, chosen: int) -> None:
    """Cut what is left of a part into parts that share no section, the largest first."""
    left, end = w.begin[depth], w.end[depth] - 1
    drop(w.items, left, end, chosen)
    first, last = w.first[depth], w.last[depth]
    parts = w.registers[NUM_PARTS]
    w.part_next[depth] = parts
    for s in range(max(first, p.lower[chosen]) + 1, min(last, p.upper[chosen] + 1)):
        # only a section border inside the placed buffer's life, or at its ends, can have lost its last crossing
        if w.crossing[s] == 0:
            middle = gather(p, w, left, end, s)
            if middle > left:
                add_part(w, parts, left, middle, first, s)
                parts, left = parts + 1, middle
            first = s
    if left < end:
        add_part(w, parts, left, end, first, last)
        parts += 1
    w.part_end[depth] = parts
    w.registers[NUM_PARTS] = parts
    if parts - w.part_next[depth] > 1:
        order_parts(w, w.part_next[depth], parts)


def drop(items: Ints, begin: int, end: int, chosen: int) -> None:
    """Move a buffer to `end`, behind the others of its range, which keep their order."""
    x = begin
    while items[x] != chosen:
        x += 1
    while x < end:
        items[x] = items[x + 1]
        x += 1
    items[end] = chosen


def gather(p: Instance, w: State, begin: int, end: int, section: int) -> int:
    """Move the buffers that die before a section to the front of a range, all in their order; return where they end."""
    items, spare = w.items, w.spare
    middle, num_spare = begin, 0
    for x in range(begin, end):
        i = items[x]
        if p.lower[i] < section:
            items[middle] = i
            middle += 1
        else:
            spare[num_spare] = i
            num_spare += 1
    for x in range(num_spare):
        items[middle + x] = spare[x]
    return middle


def add_part(w: State, number: int, begin: int, stop: int, first: int, last: int) -> None:
    """Write down a part that waits: its range of buffers and of sections."""
    w.part_begin[number], w.part_stop[number] = begin, stop
    w.part_first[number], w.part_last[number] = first, last
    w.part_is_cut[number] = 0


def order_parts(w: State, begin: int, end: int) -> None:
    """Sort waiting parts by size, the largest first: it is the likeliest to fail, and then the others need not be tried."""
    for x in range(begin, end):
        start, stop, first, last = w.part_begin[x], w.part_stop[x], w.part_first[x], w.part_last[x]
        y = x
        while y > begin and w.part_stop[y - 1] - w.part_begin[y - 1] < stop - start:
            add_part(w, y, w.part_begin[y - 1], w.part_stop[y - 1], w.part_first[y - 1], w.part_last[y - 1])
            y -= 1
        add_part(w, y, start, stop, first, last)
    for x in range(begin, end):
        w.part_is_cut[x] = 1


def open_part(p: Instance, w: State, depth: int) -> None:
    """Put the waiting part that the level below has reached on the stack."""
    number = w.part_next[depth - 1] - 1
    w.begin[depth], w.end[depth] = w.part_begin[number], w.part_stop[number]
    w.first[depth], w.last[depth] = w.part_first[number], w.part_last[number]
    w.trail_mark[depth], w.placed_mark[depth] = w.registers[TRAIL_LENGTH], w.registers[NUM_PLACED]
    w.part_mark[depth], w.rank_mark[depth] = w.registers[NUM_PARTS], w.registers[NUM_RANKS]
    w.blame_first[depth], w.blame_last[depth] = w.last[depth], w.first[depth]
    if w.part_is_cut[number] == 1:
        w.after_offset[depth], w.after_rank[depth] = NONE, NONE
        if p.is_dynamic == 1 and w.registers[NUM_RANKS] + w.end[depth] - w.begin[depth] <= len(w.rank_item):
            rank_buffers(p, w, depth)
    else:
        w.after_offset[depth], w.after_rank[depth] = w.after_offset[depth - 1], w.after_rank[depth - 1]


def rank_buffers(p: Instance, w: State, depth: int) -> None:
    """Rank the buffers of a part: those in the fullest section first, then by order; `restore` takes it back.

    By insertion, because they are nearly sorted.
    """
    items, key, begin, end = w.items, w.key, w.begin[depth], w.end[depth]
    for x in range(begin, end):
        i = items[x]
        most = 0
        for e in range(p.section_start[i], p.section_start[i + 1]):
            most = max(most, w.total[p.sections[e]])
        key[i] = p.order[i] - most * len(key)
        y = x
        while y > begin and key[items[y - 1]] > key[i]:
            items[y] = items[y - 1]
            y -= 1
        items[y] = i
    trail = w.registers[NUM_RANKS]
    for x in range(begin, end):
        i = items[x]
        w.rank_item[trail], w.rank_value[trail] = i, w.rank[i]
        trail += 1
        w.rank[i] = x
    w.registers[NUM_RANKS] = trail
