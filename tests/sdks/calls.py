"""Calls of a provider's SDK: reads a call a line, and prints a JSON object for each.

Usage: calls.py openai|anthropic BASE_URL. A call is KIND RETRIES HEADER USER INPUT OUTPUT, such as
`json 2 x-user-id alice 10 20`: the provider's answer, the retries that the SDK may make, the header that names the user,
and the tokens that the answer tells. `open` leaves a slow stream open; `model` names a model without a price.
"""

import datetime
import json
import signal
import sys
import time

api, base_url = sys.argv[1:]
sent = []
heard = []


def on_request(request):
    sent.append(request.headers.get("x-stainless-retry-count"))


def on_response(response):
    heard.append({name: value for name, value in response.headers.items()
                  if "ratelimit" in name or "retry" in name or name == "content-type"})


hooks = {"request": [on_request], "response": [on_response]}
if api == "openai":
    import openai as sdk

    client = sdk.OpenAI(base_url=base_url + "/v1", api_key="key",
                        http_client=sdk.DefaultHttpxClient(event_hooks=hooks))
    model = "gpt-4o-mini"
else:
    import anthropic as sdk

    client = sdk.Anthropic(base_url=base_url, api_key="key",
                           http_client=sdk.DefaultHttpxClient(event_hooks=hooks))
    model = "claude-sonnet-4"


def call(kind, retries, header, user, tokens_in, tokens_out):
    stream = kind in ("stream", "open")
    answer = {"json": "json" if api == "openai" else "message", "model": "json",
              "stream": "stream" if api == "openai" else "anthropic", "open": "slow"}[kind]
    headers = {header: user, "x-answer": answer, "x-input": tokens_in, "x-output": tokens_out}
    make = client.with_options(max_retries=int(retries))
    make = make.chat.completions.create if api == "openai" else make.messages.create
    return make(model="unknown" if kind == "model" else model, max_tokens=100, stream=stream,
                messages=[{"role": "user", "content": "Hi"}], extra_headers=headers)


def text(kind, response):
    if api == "openai":
        if kind == "stream":
            return "".join(chunk.choices[0].delta.content for chunk in response if chunk.choices)
        return response.choices[0].message.content
    if kind == "stream":
        return "".join(event.delta.text for event in response if event.type == "content_block_delta")
    return response.content[0].text


left_open = []
for spec in map(str.strip, sys.stdin):
    kind, *rest = spec.split()
    # Ends the program if an SDK waits for a budget's next month.
    signal.alarm(120)
    sent.clear()
    heard.clear()
    start = time.monotonic()
    told = {"call": spec}
    try:
        response = call(kind, *rest)
        if kind == "open":
            left_open.append(response)
        else:
            told["text"] = text(kind, response)
    except sdk.APIStatusError as error:
        told["raises"] = type(error).__name__
        told["status"] = error.status_code
        told["body"] = error.body
        if api == "openai":
            told["code"], told["type"] = error.code, error.type
    told |= {"retries": list(sent), "headers": list(heard), "seconds": time.monotonic() - start}
    for headers in heard:
        if reset := headers.get("anthropic-ratelimit-tokens-reset"):
            now = datetime.datetime.now(datetime.timezone.utc)
            told["resets_in"] = (datetime.datetime.fromisoformat(reset) - now).total_seconds()
    print(json.dumps(told), flush=True)
for response in left_open:
    response.close()
