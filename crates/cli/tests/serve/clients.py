"""Asks a server what people's programs ask, through OpenAI's and Anthropic's own clients."""

import asyncio
import json
import sys

import anthropic
import openai

url = sys.argv[1]
client = openai.OpenAI(base_url=url + "/v1", api_key="sesame", max_retries=0)
ask = dict(model="any", messages=[{"role": "user", "content": "Hello!"}], max_tokens=16, temperature=0)

whole = client.chat.completions.create(**ask)
assert whole.object == "chat.completion" and whole.choices[0].message.role == "assistant"
assert whole.usage.total_tokens == whole.usage.prompt_tokens + whole.usage.completion_tokens

text, usage = "", None
for chunk in client.chat.completions.create(**ask, stream=True, stream_options={"include_usage": True}):
    if chunk.choices:
        text += chunk.choices[0].delta.content or ""
    usage = chunk.usage or usage
assert text == whole.choices[0].message.content, (text, whole)
assert usage.completion_tokens == whole.usage.completion_tokens

# The client's own accumulator is strict about the order of events.
with client.chat.completions.stream(**ask) as stream:
    for _ in stream:
        pass
    assert stream.get_final_completion().choices[0].message.content == text

several = client.chat.completions.create(**{**ask, "n": 2, "temperature": 1, "seed": 3, "logprobs": True})
assert len(several.choices) == 2 and several.choices[0].logprobs.content

schema = {
    "type": "object",
    "properties": {"yes": {"type": "boolean"}},
    "required": ["yes"],
    "additionalProperties": False,
}
form = {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema, "strict": True}}
answer = client.chat.completions.create(**{**ask, "max_tokens": 64}, response_format=form)
assert isinstance(json.loads(answer.choices[0].message.content)["yes"], bool), answer

# An iterator that is dropped closes the connection.
stream = client.chat.completions.create(**{**ask, "max_tokens": 400}, stream=True)
next(iter(stream))
stream.close()

completion = client.completions.create(model="any", prompt="Once", max_tokens=4, temperature=0)
assert completion.choices[0].finish_reason in ("length", "stop")
models = client.models.list()
assert client.models.retrieve(models.data[0].id).id == models.data[0].id

for wrong, kind in [
    (dict(temperature=9), openai.BadRequestError),
    (dict(tools=[{"type": "function", "function": {"name": "f"}}]), openai.BadRequestError),
]:
    try:
        client.chat.completions.create(**{**ask, **wrong})
        raise SystemExit("not refused: %s" % wrong)
    except kind as error:
        assert error.param in wrong and error.code, error
try:
    openai.OpenAI(base_url=url + "/v1", api_key="wrong", max_retries=0).models.list()
    raise SystemExit("a wrong key was taken")
except openai.AuthenticationError:
    pass


async def many():
    later = openai.AsyncOpenAI(base_url=url + "/v1", api_key="sesame")
    answers = await asyncio.gather(*(later.chat.completions.create(**ask) for _ in range(8)))
    assert all(answer.choices[0].message.content == text for answer in answers)


asyncio.run(many())

other = anthropic.Anthropic(base_url=url, api_key="sesame", max_retries=0)
words = dict(model="any", max_tokens=16, messages=[{"role": "user", "content": "Hello!"}], extra_body={"temperature": 0})
message = other.messages.create(**words)
assert message.content[0].text == text, (message, text)
with other.messages.stream(**words) as stream:
    assert "".join(stream.text_stream) == text
assert other.messages.count_tokens(model="any", messages=words["messages"]).input_tokens == whole.usage.prompt_tokens
print("ok")
