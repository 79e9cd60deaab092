"""What the keys of a manifest are for, in a sentence each, as editors show it."""

from collections.abc import Mapping

Says = Mapping[str, str]

TOP: Says = {
    "name": "The run's folder: runs/NAME/.",
    "project": "What costs are summed by, over several runs.",
    "provider": "Who makes the images: a name of the catalog, or a mapping that refines one, or a host of your own.",
    "model": "The model's id, as the provider calls it; one that the catalog does not know is sent as it stands.",
    "operation": "What is done with each prompt: generate makes images, edit and vary change those of a source.",
    "prompts": "What to paint: plain texts, templates with variables, and files, in order.",
    "matrix": "Axes: every combination of their values is made, for each prompt.",
    "samples": "How many times each combination is made; raising it buys only the difference.",
    "request": "Parameters of every request; an axis of the matrix, or a row, goes before them.",
    "limits": "How much, how fast, how long.",
    "retry": "What happens to requests that failed, or were never answered.",
    "output": "What the files are called, and what is kept.",
    "fixes": "A CSV of tasks to make again, beside the manifest: batchgen redo writes it. Left out: NAME.fixes.csv.",
    "engine": "How tasks are bought: local, each by itself; batch, by the provider's Batch API, for less, in a day; "
    "ray, each by itself, by the nodes of a Ray cluster; or batch until a time, and the rest each by itself.",
    "notify": "Who is told how a run goes, while nobody watches: a webhook, a command.",
}
SOURCE: Says = {
    "file": "Rows, beside the manifest: .txt (a prompt a line), .csv, .tsv, .jsonl (a variable a column), - for stdin.",
    "format": "How to read the file, where its name does not tell.",
    "id": "Your name for each row, a template: in paths and reports.",
    "prompt": 'The prompt, a template: "An {{ style }} painting of a {{ animal }}".',
    "operation": "What is done with these rows. Left out: the operation at the top.",
    "images": 'What is changed, each a template: "photos/{{ sku }}.png", a link, or the id of an uploaded file.',
    "mask": "What edit may change of the first image: a file of that image's size, a template.",
    "mask_area": "How the mask tells what may change: where it is transparent, white or black.",
    "vars": "The values of the template's variables; every combination is made.",
    "take": "How many rows of the file to take: the first ones, or with shuffle some at random. Left out: all.",
    "shuffle": "A seed: take then chooses rows at random, the same ones however the file is sorted.",
}
PROVIDER: Says = {
    "name": "What reports call it. Left out: its dialect and host.",
    "dialect": "The provider of the catalog that it speaks like.",
    "base_url": "Where it is, such as https://host/v1; a host that is not in the catalog needs --trust-host.",
    "api_key_env": "The environment variable that holds its key. Left out: it is asked without a key.",
    "keys": "Several keys or regions as one: names of variables, or what differs. Each goes at its own pace.",
    "key_header": "The header that brings the key. Left out: as the one that it speaks like, often authorization.",
    "query": "What stands behind the ? of every request, by name, such as api-version.",
    "generate": "The path of generations, below base_url. Left out: as the one that it speaks like.",
    "price": "What it takes, in USD: for each image, or for a million tokens of each kind.",
    "prompt_most": "The longest prompt that it takes, in characters. Left out: as the catalog says.",
    "idempotency": "How long it remembers an Idempotency-Key, as 24h: so long, what is sent twice is billed once.",
    "links": "Hosts to fetch its images from, beside its own; *.host is any below that one, * any public one.",
    "models": "What it calls the models of the catalog, as {its-name: gpt-image-2}: then sizes are known.",
    "send": "What goes along with every request that does not set it, by name; no part of what is bought.",
    "edit": "How it takes the images of an edit. Left out: as the catalog says.",
    "vary": "How it takes the images of a variation. Left out: as the catalog says.",
    "batch": "Its Batch API, with what is known of that; {} for one like OpenAI's. Left out: as the catalog says.",
    "parameters": "Request parameters that it takes beside those of the catalog, or in another way, by name.",
    "rules": "What it does not take together, beside the rules of the catalog.",
}
KEY: Says = {
    "api_key_env": "The environment variable that holds this key. Left out: the provider's.",
    "base_url": "Where this key goes, or this host without a key. Left out: the provider's.",
}
REFINED: Says = {**PROVIDER, "name": "A provider of the catalog, of which you know more: its price, above all."}
PRICE: Says = {
    "image": "USD for each image; the prices of tokens do not count then.",
    "text_in": "USD for a million tokens of the prompt.",
    "text_cached": "USD for a million cached tokens of text. Left out: as text_in.",
    "image_in": "USD for a million tokens of images that are sent.",
    "image_cached": "USD for a million cached tokens of images. Left out: as image_in.",
    "image_out": "USD for a million tokens of images that are made.",
    "text_out": "USD for a million tokens of text that is made. Left out: as image_out.",
}
PARAMETER: Says = {
    "kind": "What its values are: size is WIDTHxHEIGHT or auto, flag is true or false.",
    "default": "What the provider takes where it is not set, as far as that is known.",
    "values": "The values that it may have. Left out: any.",
    "least": "The least that a number may be.",
    "most": "The most that a number may be.",
}
BATCHING: Says = {
    "share": "What it costs there, as a share of the price.",
    "seconds": "Within how many seconds all is done.",
    "lines_most": "How many requests a batch may hold.",
    "bytes_most": "How large the file of a batch may be, in bytes.",
    "poll": "How many seconds are left at least between two looks at a batch.",
    "models": "The models that are known to be had so; of others the plan warns.",
}
INTAKE: Says = {
    "path": "Where they are sent, below base_url: images/edits.",
    "form": "How files travel: as parts of a form, or as data URLs in JSON, in a list called images or image_urls.",
    "references": "What it takes in place of files: links to images, ids of files that were uploaded.",
    "formats": "The formats of files that it takes.",
    "most": "How many images it takes in one request.",
    "bytes_most": "The largest file that it takes, in bytes.",
    "data_most": "The largest file that it takes as a data URL, in bytes of the file itself.",
    "square": "Whether images must be square.",
    "mask": "What of a mask may change: where it is transparent, or white. Left out: it takes no mask.",
    "mask_field": "What the mask's part of a form is called.",
    "mask_bytes_most": "The largest mask that it takes, in bytes.",
    "mask_needed": "Whether it takes no image without a mask.",
    "warning": "What one must know before it is used; plans tell it.",
}
RULE: Says = {
    "if": "Where each of these parameters has one of its values; operation is one of them, set and unset are values.",
    "then": "Each of these must have one of its values, too.",
    "says": "What the plan tells of a request that breaks the rule.",
}
LIMITS: Says = {
    "concurrency": "Requests that are on their way at once, by each key; auto: as many as are of use, up to 32.",
    "images_per_minute": "Images a minute, in each lane, or in those named: {openai: 20}. Left out: as it allows.",
    "requests_per_minute": "Requests a minute, in each lane, or in those named. Left out: as it allows.",
    "tokens_per_minute": "Tokens a minute, as estimated, in each lane, or in those named. Left out: as it allows.",
    "budget": "USD for the whole job, ever, over all its runs. Left out: no limit.",
    "images": "Images of the whole job, ever, over all its runs. Left out: no limit.",
    "timeout": "How long to wait for one answer: in seconds, or 90s, 10m, 1h; at most 24h.",
    "until": 'When to stop, by the local clock: "07:00" is the next such time, "2026-11-22 07:00" one of its own day. '
    "What would not be over by then is not begun.",
    "on_blocked": "Where the key or the credit is refused: stop, or wait and try one task now and then until it works.",
}
RETRY: Says = {
    "attempts": "How often a task is tried in all before it has failed.",
    "on_unknown": "A request that left and was not answered is sent again, or held until you decide.",
    "duplicate_allowance": "What unanswered requests may cost again: USD, or a share of the estimate. Left out: 1%.",
}
OUTPUT: Says = {
    "path": "A template, as {{ slug }}/{{ size }}, over slug, id, number, sample, key, name, model, provider and every "
    "parameter, axis and variable; the key is added where it lacks.",
    "partials": "Whether to keep the pictures that a stream shows on the way; they need stream and partial_images.",
    "store": "Where images go instead of the run's folder: s3://bucket/prefix, gs://…, az://… or file:///folder. Who "
    "asks, and where, comes from the environment: AWS_ACCESS_KEY_ID, AWS_ENDPOINT_URL and their like.",
}
ENGINE: Says = {
    "batch": "Whether tasks go to the provider's Batch API.",
    "until": 'Until when, by the local clock: "07:00". What is not back by then is ended there, and bought by itself.',
    "ray": "The address of a Ray cluster whose nodes make the images: HOST:PORT, ray://HOST:PORT, or auto.",
}
NOTIFY: Says = {
    "url_env": "The environment variable that holds the URL of a webhook, a secret; what is told is sent there.",
    "command": "A command as a list of its words; what is told is given to it as its input.",
    "format": "How it is told: text, one line, or json, one object with that line under text.",
    "on": "When: at the end; when a provider blocks, a limit ends the run (budget, until), a task is held, or nothing "
    "comes any more (stalled). Left out: all of them.",
}
REQUEST: Says = {
    "n": "Images of one request; each is paid for. Left out: 1.",
    "size": "WIDTHxHEIGHT in pixels, auto: the provider decides, or, for edit and vary, match: as the first image.",
    "quality": "How much work goes into an image; the price grows with it.",
    "complexity": "How elaborate an image may be; for models that have it.",
    "background": "The background of an image; transparent needs output_format png or webp.",
    "moderation": "How strictly the provider filters what it paints.",
    "output_format": "The format of the files, often png where it is left out; at onerouter how they come.",
    "output_compression": "In percent, for jpeg and webp alone; 100 keeps the most.",
    "input_fidelity": "How closely an edit keeps to its images, faces above all.",
    "response_format": "How images come: inline as b64_json, or behind a link; which image is made is the same.",
    "stream": "Whether the answer comes in parts, as the image is made.",
    "partial_images": "Pictures to be shown on the way to an image; needs stream.",
    "frame_count": "Frames of an animation; needs output_format gif.",
    "frame_duration_ms": "How long each frame of an animation stands, in milliseconds; needs output_format gif.",
    "seed": "Where chance begins: the same seed makes the same image again.",
    "step": "How many steps an image takes: more are slower and often finer.",
    "num_inference_steps": "How many steps an image takes: more are slower and often finer.",
    "guidance_scale": "How closely an image keeps to its prompt.",
    "negative_prompt": "What an image must not show.",
    "safety_identifier": "An id of your end user, without personal data, by which the provider traces abuse.",
    "user": "An id of your end user; the older word for safety_identifier.",
}
"""What the catalog's parameters are for."""
