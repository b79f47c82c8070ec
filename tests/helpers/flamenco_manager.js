// SPDX-License-Identifier: GPL-3.0-or-later
//
// Compiles a job as the Flamenco Manager does: it runs a job type with the functions that Flamenco documents for job
// compiler scripts, and no others. Reads {"script", "job"} from standard input; prints the job type and its tasks.

const fs = require("fs");
const posix = require("path").posix;
const vm = require("vm");

const input = JSON.parse(fs.readFileSync(0, "utf8"));
const tasks = [];

class Task {
    constructor(name, type) {
        if (!name || !type) throw new Error("a task needs a name and a type");
        Object.assign(this, { name, type, commands: [], dependencies: [] });
    }
    addCommand(command) { this.commands.push(command); }
    addDependency(task) { this.dependencies.push(task.name); }
}

function explode(range) {
    const frames = new Set();
    for (const part of range.replaceAll("..", "-").split(",")) {
        const ends = part.split("-").map(text => text.trim());
        if (ends.length > 2 || !ends.every(text => /^\d+$/.test(text))) throw new Error(`invalid range "${range}"`);
        for (let frame = +ends[0]; frame <= +ends[ends.length - 1]; frame++) frames.add(frame);
    }
    return [...frames].sort((a, b) => a - b);
}

function frameChunker(range, size) {
    const frames = explode(range), chunks = [];
    for (let i = 0; i < frames.length; i += size) chunks.push(frames.slice(i, i + size).join(","));
    return chunks;
}

const api = {
    author: { Task: (name, type) => new Task(name, type), Command: (name, parameters) => ({ name, parameters }) },
    path: { join: posix.join, dirname: posix.dirname, basename: posix.basename, stem: file => posix.parse(file).name },
    frameChunker,
    print: () => undefined,
};
const context = vm.createContext(api);
vm.runInContext(fs.readFileSync(input.script, "utf8"), context);
let error = null;
try {
    vm.runInContext("compileJob", context)({ ...input.job, addTask: task => tasks.push(task) });
} catch (caught) {
    error = String(caught);
}
console.log(JSON.stringify({ type: vm.runInContext("JOB_TYPE", context), tasks, error }));
