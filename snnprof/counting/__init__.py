"""Counting synaptic operations, in one picture.

::

    module_tracker    forward hooks: which module is running, and where a call of the model begins
          |
    operation_mode    a torch-function mode: the operands that each operation really receives
          |
          +-- linear_ops, linear_call             a convolution or linear layer: its settings
          |         |
          |     fanout                            f, the synapses out of each input position
          |         |
          |     accumulator                       the input, read chunk by chunk: non-zeros and
          |      |  value_kind, weight_kind       sums of magnitudes per position, and the kinds
          |      |  input_buffer                  small inputs are collected and read together
          |         |
          |     layer_tally                       a row's calls, inputs, MACs and time steps
          |
          +-- products                            a product of two activations: as an einsum
                    |
                product_tally                     the pairs of non-zeros that meet
          |
    counter           SopCounter: puts the hooks on, finds the row of each call, and at the end
                      makes a snnprof.CountResult of the rows and of what was not counted

neuron_rates counts the non-zero outputs of the neuron layers, by a forward hook on each: firing
rates. all_reduce puts the results of several processes together.

samples reads samples and time steps off the model's input, sample_doubt sees where they look like
T; time_steps keeps rates per step, row_order finds in which order a layer's input holds them;
call_site tells the products of one module apart; scratch holds the work buffers. SOPs of a
layer are the sum over its inputs of 1[x != 0] * f: the non-zeros at each position are summed
over all calls, and multiplied with f once, when f changes or at the end.

A kind of operation is added with :func:`snnprof.counting.linear_ops.linear_operation`, a way
of writing a product with :func:`snnprof.counting.products.product`.
"""
