# SPDX-License-Identifier: GPL-3.0-or-later
"""The panel in German.

What Blender itself says in its own panels (Camera, Size, Step, Cancel) is in Blender's own translation. A key is the
English text, or (context, English text) where one English word has to become several.
"""

from __future__ import annotations

TEXTS: dict[str | tuple[str, str], str] = {
    # the button and how things are
    "Shade": "Schattieren",
    "Ready": "Bereit",
    "Ready on {device}": "Bereit auf {device}",
    "Ready; the backend starts with the first job": "Bereit; das Backend startet mit dem ersten Auftrag",
    "Placed: {folder}": "Platziert: {folder}",
    "Fetched: {folder}": "Abgeholt: {folder}",
    "Look Through the Camera": "Durch die Kamera sehen",
    "The scene has no camera": "Die Szene hat keine Kamera",
    "The scene is being captured": "Die Szene wird gerade aufgezeichnet",
    "Blender is rendering": "Blender rendert gerade",
    "Set Up": "Einrichten",
    "Set Up Again": "Neu einrichten",
    "Try Again": "Noch einmal versuchen",
    # where a job is
    "Planning": "Plane",
    "Capturing the scene": "Zeichne die Szene auf",
    "A simulation has to be stepped to the first frame": "Bis zum ersten Bild muss eine Simulation durchlaufen werden",
    "Stepping the simulation": "Gehe die Simulation Bild für Bild durch",
    "Rendering": "Rendere",
    "Blender waits: rendering {what}": "Blender wartet: rendert {what}",
    "Starting the backend": "Starte das Backend",
    "Sending the shot": "Sende die Einstellung",
    "Waiting for its turn": "Wartet, bis er an der Reihe ist",
    "Loading": "Lade",
    "Shading": "Schattiere",
    "Decoding the frames": "Dekodiere die Bilder",
    "Fetching the result": "Hole das Ergebnis",
    "Baking the textures": "Backe die Texturen",
    "Placing the result": "Platziere das Ergebnis",
    "Done": "Fertig",
    "Failed": "Fehlgeschlagen",
    "Cancelled": "Abgebrochen",
    "Done in {time}": "Fertig nach {time}",
    "{state}, {step} of {steps}": "{state}, {step} von {steps}",
    "{state}, frame {step} of {steps}": "{state}, Bild {step} von {steps}",
    "{state}, {time} left": "{state}, noch {time}",
    "{state}: {detail}": "{state}: {detail}",
    "{count} s": "{count} s",
    "{count} min": "{count} min",
    "{hours} h {minutes} min": "{hours} h {minutes} min",
    "Trackshade: {state}   Esc: cancel": "Trackshade: {state}   Esc: abbrechen",
    # the look
    "Look": "Aussehen",
    "Looks": "Aussehen",
    "Add Look": "Aussehen speichern",
    "Prompt": "Beschreibung",
    "Avoid": "Vermeiden",
    "a red truck on a wet road at dusk": "a red truck on a wet road at dusk",
    "the model's own words": "wie das Modell es will",
    "First Frame": "Erstes Bild",
    ("Trackshade", "This Render"): "Dieses Rendering",
    ("Trackshade", "Image"): "Bilddatei",
    ("Trackshade", "Image in Blender"): "Bild in Blender",
    ("Trackshade", "Generated"): "Erfunden",
    "Blender waits for this one frame": "Blender wartet auf dieses eine Bild",
    "Lock Seed": "Startwert festhalten",
    "Model and Strengths": "Modell und Stärken",
    "Model": "Modell",
    "Steps": "Schritte",
    "Guidance": "Texttreue",
    "Motion Strength": "Bewegung",
    "0: the model's own (steps {steps}, guidance {guidance})":
        "0: wie das Modell es will (Schritte {steps}, Texttreue {guidance})",
    # the shot
    "Shot": "Einstellung",
    "Own Range": "Eigener Bereich",
    ("Trackshade", "View Layer"): "Ansichtsebene",
    "the scene's own": "die der Szene",
    "Fit Frames": "Bilder anpassen",
    "Fit Frame": "Bildfläche",
    ("Trackshade", "Glass"): "Glas",
    "Surfaces that let more than half of the light through and are to be seen themselves": "Oberflächen, die mehr als "
    "die Hälfte des Lichts durchlassen und selbst zu sehen sind",
    ("Trackshade", "As a Surface"): "Als Oberfläche",
    "The tracks are those of the glass: its reflections and refractions move with it": "Die Spuren sind die des "
    "Glases: seine Spiegelungen und Brechungen bewegen sich mit ihm",
    ("Trackshade", "See Through"): "Durchsichtig",
    "The tracks are those of what is behind the glass": "Die Spuren sind die dessen, was hinter dem Glas ist",
    ("Trackshade", "Hair"): "Haare",
    "Hair curves, and hair of particle systems that renders as strands": "Haarkurven, und Haare von Partikelsystemen, "
    "die als Strähnen gerendert werden",
    ("Trackshade", "Left Out"): "Weggelassen",
    "Hair has the tracks of what is behind it": "Haare haben die Spuren dessen, was hinter ihnen ist",
    ("Trackshade", "As Strands"): "Als Strähnen",
    "Each strand is a thin tube; the shot can become very large": "Jede Strähne ist eine dünne Röhre; die Einstellung "
    "kann sehr groß werden",
    ("Trackshade", "Size"): "Größe",
    ("Trackshade", "Nearest"): "Nächstgelegene",
    ("Trackshade", "Automatic"): "Automatisch",
    ("Trackshade", "First Frames"): "Die ersten Bilder",
    ("Trackshade", "Wider Step"): "Größerer Schritt",
    ("Trackshade", "Spread"): "Verteilt",
    ("Trackshade", "Whole Frame"): "Ganzes Bild",
    ("Trackshade", "Fill"): "Füllend",
    "Looking at the scene": "Sehe mir die Szene an",
    "{objects} objects, {vertices} vertices, ≈ {bytes}": "{objects} Objekte, {vertices} Punkte, ≈ {bytes}",
    "More than {what}": "Mehr als {what}",
    # the checks
    "Checks": "Prüfungen",
    "Check the Shot": "Einstellung prüfen",
    "Nothing stands in the way": "Nichts steht im Weg",
    "Nothing stands in the way in this frame": "In diesem Bild steht nichts im Weg",
    "The scene has no camera.": "Die Szene hat keine Kamera.",
    "Add Framing Camera": "Passende Kamera hinzufügen",
    "Make It Perspective": "Perspektivisch machen",
    "Set the Range": "Bereich setzen",
    "Show in Renders": "In Renderings zeigen",
    "Add a Monkey": "Einen Affen hinzufügen",
    "Simplify Subdivision": "Unterteilung vereinfachen",
    "Render It Instead": "Lieber rendern",
    "Use Standard Colors": "Standardfarben verwenden",
    "Camera '{name}' is neither perspective nor orthographic: it has no image plane to track points on.":
        "Kamera '{name}' ist weder perspektivisch noch orthografisch: Sie hat keine Bildebene, auf der sich Punkte "
        "verfolgen lassen.",
    "Nothing is visible in renders; {names} would be.": "In Renderings ist nichts sichtbar; {names} wären es.",
    "Nothing is in the picture in the first frame: what comes in later has no look to take over.":
        "Im ersten Bild ist nichts zu sehen: Was später dazukommt, kann kein Aussehen übernehmen.",
    "Not in the picture in frame {frames}: {names}.": "Nicht zu sehen in Bild {frames}: {names}.",
    "The vertices of {names} are made anew in each frame: the shape is followed exactly, but where it moves, colors "
    "are carried over to the nearest points, which may slide.":
        "Die Punkte von {names} entstehen in jedem Bild neu: Der Form wird genau gefolgt, aber wo sie sich bewegt, "
        "werden Farben auf die nächsten Punkte übertragen und können dabei rutschen.",
    "Not part of the shot, though renders show it: hair, volumes, points or strokes of {names}.":
        "Nicht Teil der Einstellung, obwohl Renderings es zeigen: Haare, Volumen, Punkte oder Striche von {names}.",
    "The render displaces {names} by materials: the tracks follow the surface without that.":
        "Das Rendering verschiebt {names} durch Materialien: Die Spuren folgen der Oberfläche ohne das.",
    "Cycles subdivides {names} while it renders: the tracks follow the modifier's own levels.":
        "Cycles unterteilt {names} beim Rendern: Die Spuren folgen den Stufen des Modifikators.",
    "What shows through {names} cannot be told from the materials: it is tracked as solid.":
        "Was durch {names} zu sehen ist, lässt sich aus den Materialien nicht ermitteln: Es gilt als undurchsichtig.",
    "More than half of the light passes {names}: the tracks are those of what is behind.":
        "Mehr als die Hälfte des Lichts geht durch {names}: Die Spuren sind die dessen, was dahinter ist.",
    "More than half of the light passes {names}: the tracks are those of the glass.":
        "Mehr als die Hälfte des Lichts geht durch {names}: Die Spuren sind die des Glases.",
    "Track the Glass": "Das Glas verfolgen",
    "Track What Is Behind": "Verfolgen, was dahinter ist",
    "Toggle Glass": "Glas umschalten",
    "The shot's {vertices} vertices take about {sent}, and {free} of memory are free.":
        "Die {vertices} Punkte der Einstellung brauchen etwa {sent}, und {free} Arbeitsspeicher sind frei.",
    "The image ({size}) has the shape of the model's and is scaled to {model}.":
        "Das Bild ({size}) hat die Form des Modellbilds und wird auf {model} skaliert.",
    "The image ({size}) shows the scene's frame and is scaled to {model}.":
        "Das Bild ({size}) zeigt den Bildausschnitt der Szene und wird auf {model} skaliert.",
    "The image ({size}) shows the scene's frame and is padded to {model}.":
        "Das Bild ({size}) zeigt den Bildausschnitt der Szene und wird auf {model} erweitert.",
    "The image ({size}) shows the scene's frame and is cut to {model}.":
        "Das Bild ({size}) zeigt den Bildausschnitt der Szene und wird auf {model} beschnitten.",
    "The image ({size}) has another shape than the scene's frame ({frame}): it is scaled to cover the "
    "frame and cut, and may not lie over what moves.":
        "Das Bild ({size}) hat eine andere Form als der Bildausschnitt der Szene ({frame}): Es wird so skaliert und "
        "beschnitten, dass es ihn füllt, und liegt vielleicht nicht über dem, was sich bewegt.",
    "No image is chosen for the first frame.": "Für das erste Bild ist keine Bilddatei gewählt.",
    # what a scene lacks
    "A linked library is missing, and with it what it holds: {names}.":
        "Eine verknüpfte Bibliothek fehlt und mit ihr, was sie enthält: {names}.",
    "{count} linked libraries are missing, and with them what they hold: {names}.":
        "{count} verknüpfte Bibliotheken fehlen und mit ihnen, was sie enthalten: {names}.",
    "Linked data is missing in its library: {names}.": "Verknüpfte Daten fehlen in ihrer Bibliothek: {names}.",
    "{count} linked data-blocks are missing in their libraries: {names}.":
        "{count} verknüpfte Datenblöcke fehlen in ihren Bibliotheken: {names}.",
    "A file that the scene refers to is missing: {names}.": "Eine Datei, auf die die Szene verweist, fehlt: {names}.",
    "{count} files that the scene refers to are missing: {names}.":
        "{count} Dateien, auf die die Szene verweist, fehlen: {names}.",
    "A texture is missing: {names}.": "Eine Textur fehlt: {names}.",
    "{count} textures are missing: {names}.": "{count} Texturen fehlen: {names}.",
    "A movie clip is missing: {names}.": "Ein Filmclip fehlt: {names}.",
    "{count} movie clips are missing: {names}.": "{count} Filmclips fehlen: {names}.",
    "A font is missing: {names}.": "Eine Schrift fehlt: {names}.",
    "{count} fonts are missing: {names}.": "{count} Schriften fehlen: {names}.",
    "A volume file is missing: {names}.": "Eine Volumendatei fehlt: {names}.",
    "{count} volume files are missing: {names}.": "{count} Volumendateien fehlen: {names}.",
    "A cache file is missing: {names}.": "Eine Cache-Datei fehlt: {names}.",
    "{count} cache files are missing: {names}.": "{count} Cache-Dateien fehlen: {names}.",
    "A baked simulation is missing on the disk: {names}.":
        "Eine gebackene Simulation fehlt auf der Platte: {names}.",
    "{count} baked simulations are missing on the disk: {names}.":
        "{count} gebackene Simulationen fehlen auf der Platte: {names}.",
    "A file of a node is missing: {names}.": "Die Datei eines Nodes fehlt: {names}.",
    "{count} files of nodes are missing: {names}.": "{count} Dateien von Nodes fehlen: {names}.",
    "A node is of a type that this Blender does not have, an add-on's perhaps: {names}.":
        "Ein Node ist von einem Typ, den dieses Blender nicht hat, vielleicht aus einem Add-on: {names}.",
    "{count} nodes are of types that this Blender does not have, an add-on's perhaps: {names}.":
        "{count} Nodes sind von Typen, die dieses Blender nicht hat, vielleicht aus einem Add-on: {names}.",
    "The render engine of the scene is not in this Blender, which uses its own instead: {names}.":
        "Die Render-Engine der Szene fehlt in diesem Blender, das stattdessen seine eigene nimmt: {names}.",
    "{count} render engines of the scene are not in this Blender, which uses its own instead: {names}.":
        "{count} Render-Engines der Szene fehlen in diesem Blender, das stattdessen seine eigene nimmt: {names}.",
    "A driver did not run, because Python scripts of this file are blocked: {names}.":
        "Ein Treiber lief nicht, da Python-Skripte dieser Datei gesperrt sind: {names}.",
    "{count} drivers did not run, because Python scripts of this file are blocked: {names}.":
        "{count} Treiber liefen nicht, da Python-Skripte dieser Datei gesperrt sind: {names}.",
    "A script of this file did not run, because Python scripts of it are blocked: {names}.":
        "Ein Skript dieser Datei lief nicht, da ihre Python-Skripte gesperrt sind: {names}.",
    "{count} scripts of this file did not run, because Python scripts of it are blocked: {names}.":
        "{count} Skripte dieser Datei liefen nicht, da ihre Python-Skripte gesperrt sind: {names}.",
    "A driver fails: {names}.": "Ein Treiber schlägt fehl: {names}.",
    "{count} drivers fail: {names}.": "{count} Treiber schlagen fehl: {names}.",
    "Reload and Run Scripts": "Neu laden und Skripte ausführen",
    "Find Missing Files": "Fehlende Dateien suchen",
    "The camera cannot be changed here": "Die Kamera lässt sich hier nicht ändern",
    "The color configuration that Blender was started with has no standard colors":
        "Die Farbkonfiguration, mit der Blender gestartet wurde, hat keine Standardfarben",
    "The view layer shows no surface.": "Die Ansichtsebene zeigt keine Oberfläche.",
    "Camera '{name}' sees nothing in frame {frames}.": "Kamera '{name}' sieht nichts in Bild {frames}.",
    "{model} is not on this computer yet.": "{model} ist noch nicht auf diesem Computer.",
    "{model} needs about {need} on the device, and {free} are free.":
        "{model} braucht etwa {need} auf dem Gerät, und {free} sind frei.",
    "The file was never saved, so results go to {folder}.":
        "Die Datei wurde nie gespeichert; Ergebnisse kommen deshalb nach {folder}.",
    # the tracking colors
    "Tracking Colors": "Spurfarben",
    "Black Background": "Schwarzer Grund",
    "Render Control": "Spurvideo rendern",
    "Looking at the first frame": "Sieht sich das erste Bild an",
    "The scene has changed": "Die Szene hat sich geändert",
    "Sent, but hidden in the viewport: {names}": "Wird gesendet, ist aber in der Ansicht verborgen: {names}",
    "Not there in the first frame, so its colors may differ a little: {names}":
        "Im ersten Bild nicht da; seine Farben können daher etwas abweichen: {names}",
    "Shown when playback stops, since its vertices are others in each frame: {names}":
        "Erscheint, wenn die Wiedergabe hält, da es in jedem Bild andere Punkte hat: {names}",
    # jobs
    "Jobs": "Aufträge",
    ("Trackshade", "Redo"): "Noch einmal",
    "No job yet": "Noch kein Auftrag",
    "{model}, seed {seed}": "{model}, Startwert {seed}",
    "Use Its Settings": "Seine Werte übernehmen",
    "Place a Result": "Ein Ergebnis platzieren",
    "Remove Job": "Auftrag entfernen",
    "Clear Finished Jobs": "Erledigte Aufträge entfernen",
    "This job has no folder yet": "Dieser Auftrag hat noch keinen Ordner",
    "This job has no result to place": "Dieser Auftrag hat kein Ergebnis zum Platzieren",
    # placing
    "Placing": "Platzieren",
    "Place": "Platzieren",
    ("Trackshade", "Plate and Background"): "Bildtafel und Hintergrund",
    ("Trackshade", "Compositor"): "Compositor",
    ("Trackshade", "Sequencer"): "Sequenzer",
    ("Trackshade", "Texture, Projected"): "Textur, projiziert",
    ("Trackshade", "Texture, Baked"): "Textur, gebacken",
    ("Trackshade", "Texture, Heat Map"): "Textur, Wärmebild",
    ("Trackshade", "Plate"): "Bildtafel",
    ("Trackshade", "Background"): "Hintergrundbild",
    ("Trackshade", "Not"): "Gar nicht",
    "Folder of the Results": "Ordner der Ergebnisse",
    "Put Materials Back": "Materialien zurückgeben",
    "No object shows a result": "Kein Objekt zeigt ein Ergebnis",
    "{count} objects have their own materials again": "{count} Objekte haben wieder ihre eigenen Materialien",
    "Texture Size": "Texturgröße",
    # the backend and the models
    "Backend": "Backend",
    "Not set up": "Nicht eingerichtet",
    "Setting up": "Wird eingerichtet",
    "Starts when needed": "Startet bei Bedarf",
    "Starting": "Startet",
    "The set-up has to download packages, and Blender may not use the network.":
        "Zum Einrichten müssen Pakete geladen werden, und Blender darf nicht ins Netz.",
    "It is to be downloaded, and Blender may not use the network.":
        "Es muss geladen werden, und Blender darf nicht ins Netz.",
    "Or without the network, from packages that were downloaded elsewhere:":
        "Oder ohne Netz, mit Paketen, die anderswo geladen wurden:",
    "Free VRAM": "Grafikspeicher freigeben",
    "{free} of {total} free": "{free} von {total} frei",
    "Log": "Protokoll",
    "Diagnostics": "Diagnose",
    "No backend is running": "Es läuft kein Backend",
    "Instead": "Stattdessen",
    "Rendered by": "Gerendert von",
    "Copy Diagnostics": "Diagnose kopieren",
    "Check This Environment": "Diese Umgebung prüfen",
    "Models": "Modelle",
    "{here}; needs {memory} of memory; {licence}": "{here}; braucht {memory} Speicher; {licence}",
    "here": "hier",
    "not here": "nicht hier",
    "Fetch Model": "Modell holen",
    "Remove Model": "Modell entfernen",
    "It leaves the list; its files stay where they are": "Es verlässt die Liste; seine Dateien bleiben, wo sie sind",
    "Its {size} are deleted from the disk": "Seine {size} werden von der Platte gelöscht",
    "Verify": "Überprüfen",
    "Use a Checkpoint Folder": "Ordner mit Gewichten verwenden",
    "Move Models": "Modelle verschieben",
    "Read the Licence": "Lizenz lesen",
    "Results": "Ergebnisse",
    "Unsaved Scenes": "Ungespeicherte Szenen",
    "Results of scenes that were never saved are now in {folder}.":
        "Ergebnisse von Szenen, die nie gespeichert wurden, sind jetzt in {folder}.",
    "The backend's environment is now in {folder}, for all versions of Blender.":
        "Die Umgebung des Backends ist jetzt in {folder}, für alle Versionen von Blender.",
    "Environment Folder": "Ordner der Umgebung",
    "Existing Python": "Vorhandenes Python",
    "Folder of Wheels": "Ordner mit Wheels",
    "Package Index": "Paketverzeichnis",
    "Backend Address": "Adresse des Backends",
    # buttons whose words Blender has for other things only
    ("Operator", "Cancel"): "Abbrechen",
    ("Operator", "Folder"): "Ordner",
    ("Operator", "Take Out"): "Herausnehmen",
    ("Operator", "Start"): "Starten",
    ("Operator", "Stop"): "Anhalten",
    ("Operator", "Pause"): "Pause",
    # tooltips of the buttons that are pressed most
    "Capture the scene as it is now and shade it with this job's settings and seed":
        "Die Szene aufzeichnen, wie sie jetzt ist, und mit den Werten und dem Startwert dieses Auftrags schattieren",
    "What the video should show: material, light, place, style":
        "Was das Video zeigen soll: Material, Licht, Ort, Stil",
    "What it should not show; the model's own words where this is empty":
        "Was es nicht zeigen soll; ist es leer, gelten die Worte des Modells",
    "What the video starts from and takes its colors and light from":
        "Womit das Video beginnt und woher es Farben und Licht nimmt",
    "Another number makes another video of the same scene and prompt":
        "Eine andere Zahl ergibt ein anderes Video derselben Szene und Beschreibung",
}  # fmt: skip
