// SPDX-License-Identifier: BSD-2-Clause
// Three workers, each with a heap of its own, and a buffer that they share: workers.js COUNT
const { Worker, isMainThread, parentPort, workerData } = require('worker_threads');
const crypto = require('crypto');

function work(me, count, shared) {
    const table = new Map(), hash = crypto.createHash('sha256'), sums = new Int32Array(shared);
    let x = 1000 + me;
    for (let round = 0; round < 4; round++) {
        for (let i = round % 2; i < count; i += 1 + round % 2) {
            x = (Math.imul(x, 1103515245) + 12345) & 0x7fffffff;
            table.set('key ' + i, { i, text: `value ${i} of worker ${me} in round ${round}: ${x.toString(16)}`, list: [x, i, round] });
        }
        for (const [key, value] of table)
            hash.update(key + value.text + value.list.join());
        Atomics.add(sums, round, x & 0xffff);
    }
    return hash.digest('hex');
}

if (isMainThread) {
    const count = parseInt(process.argv[2]), shared = new SharedArrayBuffer(64), results = [];
    let left = 3;
    for (let me = 0; me < 3; me++)
        new Worker(__filename, { workerData: { me, count, shared } }).on('message', (digest) => {
            results[me] = digest;
            if (--left === 0)
                console.log(results.join('\n') + '\n' + new Int32Array(shared).join());
        });
} else {
    parentPort.postMessage(work(workerData.me, workerData.count, workerData.shared));
}
