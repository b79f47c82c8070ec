// SPDX-License-Identifier: GPL-3.0-or-later
//
// Job type of Flamenco 3: a shot is captured in parts of its frames, shaded with each seed, and placed in its scene.
// All tasks run the program of the Manager's variable {trackshade}; finished ones are skipped when a job runs again.

const JOB_TYPE = {
    label: "Trackshade",
    description: "Capture the tracks of a shot, shade it, and place the result in a copy of the scene",
    settings: [
        { key: "frames", type: "string", required: true,
          eval: "f'{C.scene.frame_start}-{C.scene.frame_end}'",
          evalInfo: { showLinkButton: true, description: "Scene frame range" },
          description: "First and last frame, such as 101-149" },
        { key: "chunk_size", type: "int32", default: 10, propargs: { min: 1 }, visible: "submission",
          description: "Number of frames that one task captures" },
        { key: "prompt", type: "string", default: "", description: "Prompt of the model" },
        { key: "model", type: "string", default: "mini", description: "Model, as 'trackshade models' lists it" },
        { key: "seeds", type: "string", default: "0",
          description: "Seeds, each of which is shaded: 1-4 or 3, 7" },
        { key: "camera", type: "string", default: "", visible: "submission",
          description: "Name of the camera. Empty: that of the scene" },
        { key: "first_frame", type: "string", default: "render", visible: "submission",
          description: "First frame: render, generate, none, or the path of a picture" },
        { key: "light", type: "string", choices: ["clay", "none"], default: "clay", visible: "submission",
          description: "What the light of the result changes with" },
        { key: "results_root", type: "string", subtype: "dir_path", required: true, visible: "submission",
          description: "Folder of all results, which all workers reach" },
        { key: "shade_task_type", type: "string", default: "misc", visible: "submission",
          description: "Type of the tasks that shade; workers with a GPU list it" },

        { key: "blendfile", type: "string", required: true, visible: "web", description: "Scene file" },
        { key: "scene", type: "string", eval: "C.scene.name", default: "", visible: "web",
          description: "Name of the scene in the file" },
    ],
};

function compileJob(job) {
    const settings = job.settings;
    const range = parseRange(settings.frames);
    if (!(settings.chunk_size >= 1)) {
        throw `Each task captures at least one frame, not ${settings.chunk_size}`;
    }
    const folder = path.join(settings.results_root, folderName(job.name));
    const tracks = path.join(folder, `tracks-${range.first}-${range.last}-${settings.chunk_size}`);

    const captureTasks = [];
    for (let first = range.first; first <= range.last; first += settings.chunk_size) {
        const task = author.Task(`capture-${first}`, "blender");
        task.addCommand(trackshade(captureArguments(settings, range, first, path.join(tracks, `${first}.shot`))));
        job.addTask(task);
        captureTasks.push(task);
    }
    for (const text of frameChunker(settings.seeds, 1)) {
        const seed = parseInt(text, 10);
        const result = path.join(folder, `seed-${seed}`);
        const shadeTask = author.Task(`shade-${seed}`, settings.shade_task_type);
        shadeTask.addCommand(trackshade(shadeArguments(settings, seed, tracks, result)));
        for (const task of captureTasks) {
            shadeTask.addDependency(task);
        }
        job.addTask(shadeTask);

        const placeTask = author.Task(`place-${seed}`, "blender");
        placeTask.addCommand(trackshade(placeArguments(settings, result)));
        placeTask.addDependency(shadeTask);
        job.addTask(placeTask);
    }
}

function captureArguments(settings, range, first, out) {
    // Without a picture of its own, the first frame is made when the shot is shaded.
    const firstFrame = settings.first_frame === "generate" ? "none" : settings.first_frame;
    return ["export"].concat(ofScene(settings), [
        `--frames=${range.first}-${range.last}`,
        `--chunk=${first}:${settings.chunk_size}`,
        `--light=${settings.light}`,
        `--first-frame=${firstFrame}`,
    ], settings.camera ? [`--camera=${settings.camera}`] : [], common(out), ["--", settings.blendfile]);
}

function shadeArguments(settings, seed, tracks, result) {
    const ofModel = ["generate", "none"].indexOf(settings.first_frame) >= 0;
    return ["shade",
        `--model=${settings.model}`,
        `--prompt=${settings.prompt}`,
        `--seed=${seed}`,
        `--light=${settings.light}`,
    ].concat(ofModel ? [`--first-frame=${settings.first_frame}`] : [], common(result), ["--", tracks]);
}

function placeArguments(settings, result) {
    const out = path.join(result, "scene.blend");
    return ["place"].concat(ofScene(settings), common(out), ["--", result, settings.blendfile]);
}

function ofScene(settings) {
    return settings.scene ? [`--scene=${settings.scene}`] : [];
}

function common(out) {
    return ["--blender={blender}", "--skip-finished", "--progress=flamenco", `--out=${out}`];
}

function trackshade(args) {
    return author.Command("exec", { exe: "{trackshade}", args: args });
}

function parseRange(text) {
    const found = /^\s*(-?\d+)\s*(?:-\s*(-?\d+)\s*)?$/.exec(text);
    if (!found) {
        throw `Frames are a first and a last one, such as 101-149, not "${text}"`;
    }
    const first = parseInt(found[1], 10);
    const last = found[2] === undefined ? first : parseInt(found[2], 10);
    if (last < first) {
        throw `The frames "${text}" end before they begin`;
    }
    return { first: first, last: last };
}

function folderName(name) {
    return name.replace(/[^\w.+-]+/g, "-").replace(/^[.-]+|[.-]+$/g, "") || "shot";
}
